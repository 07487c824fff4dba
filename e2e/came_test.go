package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// withExtra gives entries a field for anything.
func withExtra(file *descriptorpb.FileDescriptorProto) {
	file.Dependency = append(file.Dependency, "google/protobuf/any.proto")
	file.GetMessageType()[0].Field = append(file.GetMessageType()[0].GetField(), &descriptorpb.FieldDescriptorProto{
		Name: proto.String("extra"), JsonName: proto.String("extra"), Number: proto.Int32(7), TypeName: proto.String(".google.protobuf.Any"),
		Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	})
}

// mirror answers each call with the message that it got, in whichever codec that was.
type mirror struct {
	mu  sync.Mutex
	got map[string]int // by content type and message
}

func (m *mirror) serve(tb testing.TB, addr string) {
	tb.Helper()
	run(tb, serveFunc(tb, addr, func(w http.ResponseWriter, r *http.Request) {
		message, contentType := messageOf(r), r.Header.Get("Content-Type")
		m.mu.Lock()
		if m.got == nil {
			m.got = map[string]int{}
		}
		m.got[contentType+" "+string(message)]++
		m.mu.Unlock()
		answerAs(w, contentType, message)
	}))
}

// newer are messages that services of a later schema know, or write otherwise.
var newer = map[string]string{
	"a field":                 `{"amount":"1","since":"2026-11-26"}`,
	"a field of a field":      `{"owner":{"name":"Ada","title":"Countess"}}`,
	"a value of an enum":      `{"kind":"KIND_REFUND"}`,
	"a type in an Any":        `{"extra":{"@type":"type.googleapis.com/later.v1.Thing","value":{"a":1}}}`,
	"an Any in an Any":        `{"extra":{"@type":"type.googleapis.com/google.protobuf.Any","value":{"@type":"later.v1/later.v1.Thing","a":[1,null]}}}`,
	"an extension":            `{"[later.v1.note]":"x"}`,
	"another order, and room": " {\"kind\" : \"KIND_CREDIT\" ,\r\n\t\"amount\":1.0, \"tags\":{\"b\":\"2\",\"a\":1}}\n",
	"nothing":                 `{}`,
}

// A stored call reaches its service, and the answer its caller, as they were sent, byte for byte, whatever
// there is in them that Holdline's schema does not know.
func TestStoredAsItCame(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{imageAs(t, withExtra)}, Routes: []string{ledgerService + "=http://" + addr}})
	contentTypes := []string{"application/json", "application/json; charset=utf-8", "application/grpc+json", "application/grpc-web+json"}
	var callers sync.WaitGroup
	n := 0
	for what, message := range newer {
		for _, contentType := range contentTypes {
			n++
			callers.Go(func() {
				key := url.QueryEscape(what + contentType)
				got := speak(t, s.Gateway, "Post", contentType, message, "Prefer: wait=60", "Idempotency-Key: "+key)
				if got.code != "" || got.message != message || got.task == "" {
					t.Errorf("%s, %s: got %+v, want %s", contentType, what, got, message)
					return
				}
				if read := readAnswer(t, s.Gateway, got.task, http.StatusOK); read != message {
					t.Errorf("%s, %s: by its handle %s, want %s", contentType, what, read, message)
				}
				again := speak(t, s.Gateway, "Post", contentType, message, "Idempotency-Key: "+key)
				if again.message != message || again.task != got.task || again.header.Get(contract.HeaderReplayed) != "true" {
					t.Errorf("%s, %s: again %+v, want the first answer", contentType, what, again)
				}
				other := message[:strings.LastIndex(message, "}")] + `,"until":"1852-11-27"}`
				if what == "nothing" {
					other = `{"until":"1852-11-27"}`
				}
				if another := speak(t, s.Gateway, "Post", contentType, other, "Idempotency-Key: "+key); another.reason != "IDEMPOTENCY_KEY_REUSED" {
					t.Errorf("%s, %s: another one got %+v, want IDEMPOTENCY_KEY_REUSED", contentType, what, another)
				}
			})
		}
	}
	awaitTasks(t, s.Gateway, n, momv1.TaskState_TASK_STATE_QUEUED)
	var service mirror
	service.serve(t, addr)
	callers.Wait()
	for what, message := range newer {
		for _, contentType := range []string{"application/json", "application/grpc+json", "application/grpc-web+json"} {
			want := 1
			if contentType == "application/json" {
				want = 2 // with and without a charset
			}
			if got := service.got[contentType+" "+message]; got != want {
				t.Errorf("%s, %s: the service got it %d times, want %d, in %v", contentType, what, got, want, service.got)
			}
		}
	}
}

// What is no message of its method in either codec never becomes a task.
func TestNoMessageIsNotStored(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Schemas: []string{imageAs(t, withExtra)}, Routes: []string{ledgerService + "=http://" + freeport.Addr(t)}})
	for _, message := range []string{`{`, `null`, `[]`, `{"amount":"x"}`, `{"amount":1,"amount":2}`, `{"amount":1} {}`, "{\"owner\":{\"name\":\"caf\xe9\"}}", `{"since":}`} {
		for _, contentType := range []string{"application/json", "application/grpc+json", "application/grpc-web+json"} {
			if got := speak(t, s.Gateway, "Post", contentType, message, "Prefer: respond-async"); got.task != "" || got.code != "invalid_argument" && got.code != "3" {
				t.Errorf("%s, %q: got %+v, want invalid_argument", contentType, message, got)
			}
		}
	}
	for _, message := range []string{"\x08", "\x2a\x02\x0a\x05", "\x2a\x03\x0a\x01\xe9"} {
		for _, contentType := range []string{"application/proto", "application/grpc", "application/grpc-web+proto"} {
			if got := speak(t, s.Gateway, "Post", contentType, message, "Prefer: respond-async"); got.task != "" || got.code != "invalid_argument" && got.code != "3" {
				t.Errorf("%s, %q: got %+v, want invalid_argument", contentType, message, got)
			}
		}
	}
}

// An answer is kept in the codec in which it came, and written in that of whoever reads it.
func TestAnswersAcrossCodecs(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	(&mirror{}).serve(t, addr)
	const asJSON, later = `{"kind":"KIND_CREDIT", "amount":"7"}`, `{"amount":"7","since":"2026-11-26"}`
	const canonical = `{"amount":"7","kind":"KIND_CREDIT"}`
	const asProto = "\x08\x07\x10\x02"
	backwards := asProto[2:] + asProto[:2]
	for _, c := range []struct{ name, codec, message, json, proto string }{
		{"json", "json", asJSON, asJSON, asProto},
		{"newer json", "json", later, later, asProto[:2]},
		{"proto", "proto", backwards, canonical, backwards},
	} {
		key := "Idempotency-Key: " + url.QueryEscape(c.name)
		first := speak(t, s.Gateway, "Post", "application/"+c.codec, c.message, key)
		if first.message != c.message {
			t.Errorf("%s: got %+v, want %q", c.name, first, c.message)
			continue
		}
		if got := readAnswer(t, s.Gateway, first.task, http.StatusOK); got != c.json {
			t.Errorf("%s, read as JSON: %s, want %s", c.name, got, c.json)
		}
		if got := readAnswer(t, s.Gateway, first.task, http.StatusOK, "Accept: application/proto"); got != c.proto {
			t.Errorf("%s, read as proto: %q, want %q", c.name, got, c.proto)
		}
		for _, contentType := range []string{"application/proto", "application/grpc", "application/grpc-web+proto"} {
			if got := speak(t, s.Gateway, "Post", contentType, asProto, key); c.name != "newer json" && got.message != c.proto {
				t.Errorf("%s, the same as %s: %+v, want %q", c.name, contentType, got, c.proto)
			} else if c.name == "newer json" && (got.reason != "IDEMPOTENCY_KEY_REUSED" || !strings.Contains(got.text, "cannot be compared")) {
				t.Errorf("%s, something as %s: %+v, want IDEMPOTENCY_KEY_REUSED that says that nobody can tell", c.name, contentType, got)
			}
		}
		res, err := taskService(t, s.Gateway).GetTask(t.Context(), &momv1.GetTaskRequest{Id: first.task})
		if err != nil || string(res.GetAnswer().GetMessage().GetValue()) != c.proto || res.GetAnswer().GetMessage().GetTypeUrl() != "type.googleapis.com/ledger.v1.Entry" {
			t.Errorf("%s: GetTask has %v, %v; want the message %q", c.name, res, err, c.proto)
		}
		_, body := post(t, "http://"+s.Gateway+"/mom.v1.TaskService/GetTask", `{"id": "`+first.task+`"}`)
		if body = strings.ReplaceAll(body, " ", ""); !strings.Contains(body, `"message":{"@type":"type.googleapis.com/ledger.v1.Entry","amount":"7"`) {
			t.Errorf("%s: GetTask as JSON has %s, want the message", c.name, body)
		}
	}
}
