package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/redistest"
	"holdline/internal/stack"
)

// withImage runs a system with a schema of the ledger, beside others on one Redis.
func withImage(tb testing.TB, redis, image, place string) (s *stack.Stack, stop func()) {
	tb.Helper()
	return upUntil(tb, stack.Config{
		Redis: redis, RedisPrefix: tb.Name() + ":", Without: []string{"sum", "subtraction", "multiplication"},
		Schemas: []string{image}, Routes: []string{ledgerService + "=http://" + place},
	})
}

// asCodec writes an entry as callers do, in either codec.
func asCodec(tb testing.TB, codec string, msg *dynamicpb.Message) []byte {
	tb.Helper()
	marshal := proto.Marshal
	if codec == "json" {
		marshal = protojson.Marshal
	}
	raw, err := marshal(msg)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// postEntry calls the ledger as curl does.
func postEntry(tb testing.TB, s *stack.Stack, method, codec string, body []byte, headers ...string) (*http.Response, string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, "http://"+s.Gateway+"/"+ledgerService+"/"+method, bytes.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/"+codec)
	for _, h := range headers {
		key, value, _ := strings.Cut(h, ": ")
		req.Header.Set(key, value)
	}
	return do(tb, req)
}

// optional makes the fields of an entry ones whose presence counts.
func optional(file *descriptorpb.FileDescriptorProto) {
	entry := file.GetMessageType()[0]
	amount := entry.GetField()[0]
	amount.Proto3Optional, amount.OneofIndex = proto.Bool(true), proto.Int32(0)
	entry.OneofDecl = []*descriptorpb.OneofDescriptorProto{{Name: proto.String("_amount")}}
}

// use is a call by a system with that schema, in that codec.
type use struct{ schema, codec string }

// comparable tells whether one can know that two uses of a key are the same request, by what they say. JSON at
// a schema that does not know all of it has nothing to be told by but its bytes; as long as its call waits, one
// that knows all of it can read that.
func (u use) comparable(next use, waits bool) bool {
	partly := use{"older", "json"}
	switch {
	case u == partly:
		return waits && next.schema != "older"
	case next == partly:
		return u != use{"older", "proto"}
	}
	return true
}

// What was once taken as the request of a key stays that request, whatever schema the MOM has that
// sees it next, and in either codec, while it waits and once it is answered. Another one is refused. Where
// nobody can tell, that is said.
func TestKeyAcrossSchemas(t *testing.T) {
	t.Parallel()
	images := map[string]string{"whole": ledgerImage(t), "older": olderImage(t), "optional": imageAs(t, optional)}
	place := freeport.Addr(t)
	systems := map[string]*stack.Stack{}
	for name, image := range images {
		systems[name], _ = withImage(t, redistest.Start(t), image, place)
	}
	request := entry(t, `amount: 7 kind: KIND_CREDIT proof: "x" tags {key: "a" value: 1} tags {key: "b" value: 2} owner {name: "Ada"}`)
	another := entry(t, `amount: 8 kind: KIND_CREDIT proof: "x"`)
	var uses []use
	for schema := range images {
		uses = append(uses, use{schema, "proto"}, use{schema, "json"})
	}
	tasks := map[use]string{}
	check := func(first, next use, waits bool) {
		t.Helper()
		sure := first.comparable(next, waits)
		status, words := http.StatusOK, ""
		if waits {
			status = http.StatusAccepted
		}
		if sameBytes := first.codec == "json" && next.codec == "json"; !sure && (first.schema != "older" || !sameBytes) {
			status, words = http.StatusUnprocessableEntity, "cannot be compared"
		}
		key := fmt.Sprintf("Idempotency-Key: %v", first.schema+"/"+first.codec)
		res, body := postEntry(t, systems[next.schema], "Post", next.codec, asCodec(t, next.codec, request), key, "Prefer: respond-async")
		if got := res.Header.Get(contract.HeaderTask); res.StatusCode != status || words == "" && got != tasks[first] || !strings.Contains(body, words) {
			t.Errorf("first %v, then %v, waits %v: got %d %s for task %q, want %d %s for %q", first, next, waits, res.StatusCode, body, got, status, words, tasks[first])
		}
		words = "use a new one for this one"
		if !sure {
			words = "cannot be compared"
		}
		res, body = postEntry(t, systems[next.schema], "Post", next.codec, asCodec(t, next.codec, another), key, "Prefer: respond-async")
		if res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(body, words) {
			t.Errorf("first %v, then another as %v, waits %v: got %d %s, want 422 %s", first, next, waits, res.StatusCode, body, words)
		}
	}
	for _, first := range uses {
		key := fmt.Sprintf("Idempotency-Key: %v", first.schema+"/"+first.codec)
		res, body := postEntry(t, systems[first.schema], "Post", first.codec, asCodec(t, first.codec, request), key, "Prefer: respond-async")
		if tasks[first] = res.Header.Get(contract.HeaderTask); res.StatusCode != http.StatusAccepted {
			t.Fatalf("first %v: got %d %s, want 202", first, res.StatusCode, body)
		}
		for _, next := range uses {
			check(first, next, true)
		}
	}
	l := &ledger{}
	run(t, l.serve(t, place))
	for _, first := range uses {
		awaitState(t, systems[first.schema].Gateway, tasks[first], momv1.TaskState_TASK_STATE_SUCCEEDED)
		for _, next := range uses {
			check(first, next, false)
		}
	}
	if got := l.posted(); got != len(uses) {
		t.Errorf("Post ran %d times, want each of %d requests once", got, len(uses))
	}
}

// renamed calls an entry a record.
func renamed(file *descriptorpb.FileDescriptorProto) {
	old, name := ".ledger.v1.Entry", ".ledger.v1.Record"
	entry := file.GetMessageType()[0]
	entry.Name = proto.String("Record")
	for _, m := range append(entry.GetNestedType(), entry) {
		for _, f := range m.GetField() {
			if f.TypeName != nil {
				f.TypeName = proto.String(strings.Replace(f.GetTypeName(), old, name, 1))
			}
		}
	}
	for _, m := range file.GetService()[0].GetMethod() {
		m.InputType, m.OutputType = proto.String(name), proto.String(name)
	}
}

// retyped makes amounts texts, as they are not on the wire of those before.
func retyped(file *descriptorpb.FileDescriptorProto) {
	file.GetMessageType()[0].GetField()[0].Type = descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()
}

// An answer is read by the schema that it was written by, whatever became of that since: by its
// handle, by its key, and through TaskService. Once that schema is nowhere any more, its readers are
// told, and can still have the proto.
func TestAnswersOfOtherSchemas(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*descriptorpb.FileDescriptorProto){"renamed": renamed, "retyped": retyped} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis, place := redistest.New(t), freeport.Addr(t)
			run(t, (&ledger{}).serve(t, place))
			before, _ := withImage(t, redis.URL(), ledgerImage(t), place)
			after := imageAs(t, change)
			body := asCodec(t, "json", amounts(t, 41))
			const want = `{"amount":"42"}`
			res, got := postEntry(t, before, "Post", "proto", asCodec(t, "proto", amounts(t, 41)), "Idempotency-Key: k", "Prefer: wait=60")
			id := res.Header.Get(contract.HeaderTask)
			if got != "\x08\x2a" {
				t.Fatalf("first answer: %d %q, want %s", res.StatusCode, got, want)
			}
			raw := readAnswer(t, before.Gateway, id, http.StatusOK, "Accept: application/proto")
			getTask := func(s *stack.Stack) string {
				_, got := post(t, "http://"+s.Gateway+"/mom.v1.TaskService/GetTask", `{"id": "`+id+`"}`)
				return strings.ReplaceAll(got, " ", "") // which protojson varies
			}

			later, _ := withImage(t, redis.URL(), after, place)
			if got := readAnswer(t, later.Gateway, id, http.StatusOK); got != want {
				t.Errorf("by its handle: %s, want %s", got, want)
			}
			if res, got := postEntry(t, later, "Post", "json", body, "Idempotency-Key: k"); got != want || res.Header.Get(contract.HeaderReplayed) != "true" {
				t.Errorf("by its key: %d %s, want %s", res.StatusCode, got, want)
			}
			if got := getTask(later); !strings.Contains(got, `"@type":"type.googleapis.com/ledger.v1.Entry","amount":"42"`) {
				t.Errorf("GetTask: %s, want the answer", got)
			}

			for _, name := range strings.Fields(redis.Ask(t, "EVAL", "return table.concat(redis.call('KEYS', ARGV[1]), ' ')", "0", "*hl:schema:*")) {
				redis.Ask(t, "DEL", name)
			}
			last, _ := withImage(t, redis.URL(), after, place)
			check := func(what string, status int, body string) {
				t.Helper()
				if status != http.StatusNotAcceptable || reasonIn(t, body) != "ANSWER_UNREADABLE" || !strings.Contains(body, "application/proto") {
					t.Errorf("%s, without its schema: %d %s, want 406 ANSWER_UNREADABLE that tells of the proto", what, status, body)
				}
			}
			check("by its handle", http.StatusNotAcceptable, readAnswer(t, last.Gateway, id, http.StatusNotAcceptable))
			// Nobody knows any more whether the request is the same, unless its bytes are.
			res, got = postEntry(t, last, "Post", "json", body, "Idempotency-Key: k")
			if name == "renamed" {
				check("by its key", res.StatusCode, got)
			} else if res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(got, "cannot be compared") {
				t.Errorf("by its key, without its schema: %d %s, want 422 that says that nobody can tell", res.StatusCode, got)
			}
			if got := getTask(last); !strings.Contains(got, `mom.v1.UnknownMessage`) {
				t.Errorf("GetTask, without its schema: %s, want an UnknownMessage", got)
			}
			if got := readAnswer(t, last.Gateway, id, http.StatusOK, "Accept: application/proto"); got != raw {
				t.Errorf("as proto: %q, want %q", got, raw)
			}
		})
	}
}

// An answer in JSON can be read as JSON for ever, and as proto by the schema that it was written by.
func TestJSONAnswersOfOtherSchemas(t *testing.T) {
	t.Parallel()
	redis, place := redistest.New(t), freeport.Addr(t)
	run(t, (&ledger{}).serve(t, place))
	before, _ := withImage(t, redis.URL(), ledgerImage(t), place)
	res, want := postEntry(t, before, "Post", "json", asCodec(t, "json", amounts(t, 41)), "Idempotency-Key: k", "Prefer: wait=60")
	id := res.Header.Get(contract.HeaderTask)
	const asProto = "\x08\x2a"
	later, _ := withImage(t, redis.URL(), imageAs(t, retyped), place)
	if got := readAnswer(t, later.Gateway, id, http.StatusOK); got != want {
		t.Errorf("as JSON: %s, want %s", got, want)
	}
	if got := readAnswer(t, later.Gateway, id, http.StatusOK, "Accept: application/proto"); got != asProto {
		t.Errorf("as proto: %q, want %q", got, asProto)
	}
	for _, name := range strings.Fields(redis.Ask(t, "EVAL", "return table.concat(redis.call('KEYS', ARGV[1]), ' ')", "0", "*hl:schema:*")) {
		redis.Ask(t, "DEL", name)
	}
	last, _ := withImage(t, redis.URL(), imageAs(t, retyped), place)
	if got := readAnswer(t, last.Gateway, id, http.StatusOK); got != want {
		t.Errorf("as JSON, without its schema: %s, want %s", got, want)
	}
	if got := readAnswer(t, last.Gateway, id, http.StatusNotAcceptable, "Accept: application/proto"); reasonIn(t, got) != "ANSWER_UNREADABLE" || !strings.Contains(got, "read it as JSON") {
		t.Errorf("as proto, without its schema: %s, want ANSWER_UNREADABLE that tells of the JSON", got)
	}
	if _, got := post(t, "http://"+last.Gateway+"/mom.v1.TaskService/GetTask", `{"id": "`+id+`"}`); !strings.Contains(got, "mom.v1.UnknownMessage") {
		t.Errorf("GetTask, without its schema: %s, want an UnknownMessage", got)
	}
}

// withdrawn takes back that Read may run twice.
func withdrawn(file *descriptorpb.FileDescriptorProto) {
	file.GetService()[0].GetMethod()[0].Options = nil
}

// A method that no longer says that it may run twice is taken at its word by tasks that were stored
// before: what the service may have seen is not sent again.
func TestDeclarationWithdrawn(t *testing.T) {
	t.Parallel()
	redis, place := redistest.New(t), freeport.Addr(t)
	ledgers := &ledger{}
	broken := make(chan int64, 10)
	brittle(t, place, ledgers, func(amount int64) bool {
		broken <- amount
		return true
	})
	before, stop := withImage(t, redis.URL(), ledgerImage(t), place)
	paused := func(s *stack.Stack, paused bool) {
		method := map[bool]string{true: "PauseQueue", false: "ResumeQueue"}[paused]
		if res, body := post(t, "http://"+s.Admin+"/mom.v1.QueueService/"+method, `{"service": "`+ledgerService+`"}`); res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s", method, res.StatusCode, body)
		}
	}
	store := func(amount int64) string {
		res, body := postEntry(t, before, "Read", "proto", asCodec(t, "proto", amounts(t, amount)), "Prefer: respond-async")
		if res.StatusCode != http.StatusAccepted {
			t.Fatalf("got %d %s, want 202", res.StatusCode, body)
		}
		return res.Header.Get(contract.HeaderTask)
	}
	sent := store(1)
	<-broken
	paused(before, true)
	var runs int
	eventually(t, func() bool { // what was under way has ended
		res, err := taskService(t, before.Gateway).GetTask(t.Context(), &momv1.GetTaskRequest{Id: sent})
		runs = ledgers.ran(1)
		return err == nil && int(res.GetTask().GetAttempts()) == runs && res.GetTask().GetState() != momv1.TaskState_TASK_STATE_RUNNING
	}, "all attempts before the pause are recorded")
	waiting := store(2)
	stop()

	after, _ := withImage(t, redis.URL(), imageAs(t, withdrawn), place)
	paused(after, false)
	for amount, id := range map[int64]string{1: sent, 2: waiting} {
		task := awaitState(t, after.Gateway, id, momv1.TaskState_TASK_STATE_UNCERTAIN)
		if got := ledgers.ran(amount); int32(got) != task.GetAttempts() || amount == 2 && got != 1 || amount == 1 && got != runs {
			t.Errorf("amount %d: %d runs, %d attempts, %d runs before; want none after the declaration was withdrawn, but the first", amount, got, task.GetAttempts(), runs)
		}
	}
}

// A service that was down may come back as another build. Its schema is read before it gets its stored calls: by the one that was known, a method
// that kills it would run again and again.
func TestServiceIsBackAsAnother(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Without: []string{"sum", "subtraction", "multiplication"}, Routes: []string{ledgerService + "=http://" + addr}})
	stop := run(t, &foreign{addr: addr, tells: true})
	awaitListening(t, addr)
	url := "http://" + s.Gateway + "/" + ledgerService + "/Read"
	if res, body := post(t, url, `{"amount": "1"}`, "Idempotency-Key: "+addr); res.StatusCode != http.StatusOK || res.Header.Get(contract.HeaderTask) == "" {
		t.Fatalf("got %d %s, want it answered as a task", res.StatusCode, body)
	}
	stop()
	res, body := post(t, url, `{"amount": "2"}`, "Prefer: respond-async")
	if res.StatusCode != http.StatusAccepted {
		t.Fatalf("got %d %s, want 202", res.StatusCode, body)
	}
	ran := make(chan struct{}, 9)
	hangs := func(ctx context.Context) {
		ran <- struct{}{}
		<-ctx.Done()
	}
	stop = run(t, &foreign{addr: addr, tells: true, change: withdrawn, during: hangs})
	<-ran
	stop()
	run(t, &foreign{addr: addr, tells: true, change: withdrawn, during: hangs})
	awaitState(t, s.Gateway, res.Header.Get(contract.HeaderTask), momv1.TaskState_TASK_STATE_UNCERTAIN)
	if n := len(ran); n != 0 {
		t.Errorf("it ran %d times more", n)
	}
}

// A record of an older release says nothing of the schema that it was made by. While its call waits, that
// is what a request is compared with; then nobody can tell, and nobody claims to.
func TestKeyOfAnOlderRelease(t *testing.T) {
	t.Parallel()
	redis, place := redistest.New(t), freeport.Addr(t)
	whole, _ := withImage(t, redis.URL(), ledgerImage(t), place)
	older, _ := withImage(t, redis.URL(), olderImage(t), place)
	request := entry(t, `amount: 7 kind: KIND_CREDIT proof: "x"`)
	key := func(s *stack.Stack, codec string) (*http.Response, string) {
		return postEntry(t, s, "Post", codec, asCodec(t, codec, request), "Idempotency-Key: k", "Prefer: respond-async")
	}
	first, _ := key(whole, "proto")
	id := first.Header.Get(contract.HeaderTask)
	redis.Ask(t, "EVAL", "for _, t in ipairs(redis.call('KEYS', '*}:t:*')) do redis.call('HDEL', t, 'G', 'H', 'I') end return 'OK'", "0")
	for _, s := range []*stack.Stack{whole, older} {
		for _, codec := range []string{"proto", "json"} {
			res, body := key(s, codec)
			if s == older && codec == "json" { // of which that schema does not know all
				if res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(body, "cannot be compared") {
					t.Errorf("%s, in part: got %d %s, want 422 that says that nobody can tell", codec, res.StatusCode, body)
				}
			} else if res.StatusCode != http.StatusAccepted || res.Header.Get(contract.HeaderTask) != id {
				t.Errorf("%s: got %d %s, want 202 for task %s", codec, res.StatusCode, body, id)
			}
		}
	}
	run(t, (&ledger{}).serve(t, place))
	awaitState(t, whole.Gateway, id, momv1.TaskState_TASK_STATE_SUCCEEDED)
	if res, body := key(whole, "json"); res.StatusCode != http.StatusOK || res.Header.Get(contract.HeaderTask) != id {
		t.Errorf("got %d %s, want 200 for task %s", res.StatusCode, body, id)
	}
	if res, body := key(older, "proto"); res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(body, "cannot be compared") {
		t.Errorf("got %d %s, want 422 that says that nobody can tell", res.StatusCode, body)
	}
}
