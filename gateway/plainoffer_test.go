package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	engine "holdline/internal/wire"
)

// ofOneCall is what differs from one call to the next: the ULID of its task, and what is left of its time.
var ofOneCall = regexp.MustCompile(`01[0-9A-HJKMNP-TV-Z]{24}|(Timeout[-Ms]*: \[")[0-9]+`)

// handle is a MOM's answer to a call that is to be stored at once. Its message is the same for all.
func handle(w http.ResponseWriter, r *http.Request, o offer) {
	grpc := strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
	for key, value := range contract.StoredHeader(o.id, grpc) {
		w.Header().Set(key, value)
	}
	contract.WriteError(w, r, contract.Stored(&momv1.TaskHandle{Id: "a", State: momv1.TaskState_TASK_STATE_QUEUED}))
}

// A plain call that asks to be stored is as any other: the MOM gets the same, the caller reads the same, and the same is counted.
func TestPlainOfferIsAsAnyOther(t *testing.T) {
	t.Parallel()
	skipWithout(t)
	// first has another answer to each first offer of a call.
	first := func(answer func(http.ResponseWriter, *http.Request, offer)) func(http.ResponseWriter, *http.Request, offer) {
		return func(w http.ResponseWriter, r *http.Request, o offer) {
			if o.header.Get(contract.HeaderOffer) == "1" {
				answer(w, r, o)
				return
			}
			handle(w, r, o)
		}
	}
	say := func(status int, body string, headers ...string) func(http.ResponseWriter, *http.Request, offer) {
		return func(w http.ResponseWriter, r *http.Request, o offer) {
			w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
			set(w.Header(), headers)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	type way uint8
	const (
		asAny  way = iota
		begun      // as a plain call
		served     // as one
	)
	async := []string{"Prefer: respond-async"}
	for _, c := range []struct {
		name string
		asks []string
		mom  func(http.ResponseWriter, *http.Request, offer)
		way  way
	}{
		{"a handle", async, handle, served},
		{"a key", append(async, "Idempotency-Key: a"), handle, served},
		{"a key in quotes", append(async, `Idempotency-Key: "a"`), handle, served},
		{"a key that is none", append(async, "Idempotency-Key: a b"), handle, asAny},
		{"an old name of the key", append(async, "X-Idempotency-Key: a"), handle, asAny},
		{"a key alone", []string{"Idempotency-Key: a"}, handle, served},
		{"a key alone, and a wait", []string{"Idempotency-Key: a"}, hold, begun},
		{"a key alone, and no wait", []string{"Idempotency-Key: a"}, first(noStore), begun},
		{"a key that is empty", []string{"Idempotency-Key: "}, handle, asAny},
		{"a key for a while", []string{"Idempotency-Key: a", "Prefer: wait=1"}, handle, asAny},
		{"a time to live", append(async, "Holdline-Ttl: 1m", "Holdline-Answer-Ttl: 1h"), handle, served},
		{"a time to live that is none", append(async, "Holdline-Ttl: soon"), handle, asAny},
		{"a deadline", append(async, "Connect-Timeout-Ms: 9000", "Grpc-Timeout: 9S"), handle, served},
		{"a deadline that is over", append(async, "Connect-Timeout-Ms: 0", "Grpc-Timeout: 1n"), handle, asAny},
		{"a version of the protocol", append(async, "Connect-Protocol-Version: 1"), handle, served},
		{"headers that pass", append(async, "Authorization: b", "X-C: d", "Cookie: e=f", "Accept-Encoding: br", "User-Agent: g"), handle, served},
		{"headers of ours", append(async, "Holdline-Caller: forged"), handle, asAny},
		{"never", append(async, "Holdline-Mode: direct"), handle, asAny},
		{"an encoding", append(async, "Content-Encoding: br", "Grpc-Encoding: br"), handle, asAny},
		{"for a while", []string{"Prefer: respond-async, wait=1"}, handle, asAny},
		{"something else", []string{"Prefer: return=minimal"}, handle, asAny},
		{"an answer", async, func(w http.ResponseWriter, r *http.Request, o offer) {
			w.Header().Set(contract.HeaderTask, o.id)
			w.Header().Set(contract.HeaderReplayed, "true")
			say(200, "{}", "Connection: x", "Proxy-Authenticate: a")(w, r, o)
		}, served},
		{"a large answer", async, func(w http.ResponseWriter, r *http.Request, o offer) {
			w.Header().Set(contract.HeaderTask, o.id)
			say(200, strings.Repeat(" ", engine.MaxPlain+1))(w, r, o)
		}, begun},
		{"something before it", async, func(w http.ResponseWriter, r *http.Request, o offer) {
			accept(w, o)
			handle(w, r, o)
		}, begun},
		{"no store", async, noStore, begun},
		{"a refusal", async, say(400, `{"code":"invalid_argument"}`, contract.HeaderRefused+": "+contract.RefusedCall), begun},
		{"a refusal with the name of a task", async, say(400, `{"code":"invalid_argument"}`, contract.HeaderRefused+": "+contract.RefusedCall, contract.HeaderTask+": a"), begun},
		{"another shard", async, first(say(503, "{}", contract.HeaderRefused+": "+contract.RefusedNow, contract.HeaderShards+": 1")), begun},
		{"doubt", async, first(mayBeStored), begun},
		{"a reply that is lost", async, first(abort), begun},
		{"a reply of somebody else", async, first(say(200, "{}")), begun},
		{"silence", async, first(func(_ http.ResponseWriter, r *http.Request, _ offer) { <-r.Context().Done() }), begun},
		{"no such path", async, say(404, "{}"), begun},
	} {
		for _, major := range []int{1, 2} {
			for _, kind := range []string{"application/json", "application/grpc"} {
				if kind == "application/grpc" && major == 1 {
					continue
				}
				t.Run(strings.ReplaceAll(fmt.Sprint(c.name, " ", kind[len("application/"):], major), " ", "-"), func(t *testing.T) {
					t.Parallel()
					headers, body := append([]string{"Content-Type: " + kind}, c.asks...), "{}"
					if kind == "application/grpc" {
						headers, body = append(headers, "Te: trailers"), envelope(0, "")
					}
					var all [2][]string
					for i := range all {
						seen := make(chan string, 100)
						mom := newStandIn(t, func(w http.ResponseWriter, r *http.Request, o offer) {
							seen <- fmt.Sprint(r.Method, r.Host, r.RequestURI, sorted(r.Header))
							c.mom(w, r, o)
						})
						witness := newWitness(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, []string{"https://app.example"}, [2]int{major, major}, i == 0, mom.addr)
						witness.call(t, get, []string{headers[0], async[0], "Te: trailers"}, body) // opens a connection to the MOM
						for len(seen) > 0 {
							<-seen
						}
						servedBefore, begunBefore := witness.g.served.Load(), witness.g.begun.Load()
						for _, m := range []method{get, add} {
							all[i] = append(all[i], witness.call(t, m, headers, body)...)
							all[i] = append(all[i], fmt.Sprintf("tasks: %d", len(ids(mom.got()))))
							for len(seen) > 0 {
								all[i] = append(all[i], <-seen)
							}
						}
						went := func() way {
							switch {
							case witness.g.served.Load() > servedBefore:
								return served
							case witness.g.begun.Load() > begunBefore:
								return begun
							}
							return asAny
						}
						for more := 0; i == 0 && more < 5 && went() < c.way; more++ {
							witness.call(t, add, headers, body) // on a busy machine, the body of the one before may have come late
						}
						if got := went(); i == 0 && got != c.way {
							t.Errorf("it went the way %d, want %d", got, c.way)
						}
						all[i] = slices.DeleteFunc(all[i], func(text string) bool { return strings.HasPrefix(text, "holdline_gateway_mom_differences") }) // by when it is asked
						for j, text := range all[i] {
							all[i][j] = ofOneCall.ReplaceAllString(text, "$1")
						}
					}
					if !reflect.DeepEqual(all[0], all[1]) {
						t.Errorf("as a plain call:\n%s\nas any other:\n%s", strings.Join(all[0], "\n"), strings.Join(all[1], "\n"))
					}
				})
			}
		}
	}
}
