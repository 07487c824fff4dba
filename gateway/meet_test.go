package gateway_test

import (
	"io"
	"net/http"
	"testing"

	"holdline/internal/freeport"
)

// Another program at an address of a MOM answers for no task.
func TestStrangerAmongMOMs(t *testing.T) {
	t.Parallel()
	stranger := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	mom := newStandIn(t, func(w http.ResponseWriter, _ *http.Request, _ offer) { _, _ = io.WriteString(w, "the answer") })
	base, out := frontLogged(t, "http://"+freeport.Addr(t), stranger, mom.addr)
	out.await(t, "level=WARN", "another program answers in place of a MOM", stranger)
	for range 30 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/v1/tasks/"+faultService+".0.01M8M021X9YHXKKZMTV2Y6SJYM/answer", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client(t, 1).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if string(body) != "the answer" {
			t.Fatalf("got %q, which is no MOM's", body)
		}
	}
}

// MOMs that share no store do not know each other's keys and tasks.
func TestMOMsOnDifferentStores(t *testing.T) {
	t.Parallel()
	one, other := newStandIn(t, nil), newStandIn(t, nil)
	one.store, other.store = "one", "other"
	_, out := frontLogged(t, "http://"+freeport.Addr(t), one.addr, other.addr)
	out.await(t, "level=ERROR", "the MOMs of this gateway use different stores", one.addr, other.addr)
}
