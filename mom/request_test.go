package mom

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	arithmeticv1 "holdline/gen/arithmetic/v1"
	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// sumCall is a message of the method as callers send it: JSON when it begins so, else proto.
func sumCall(t *testing.T, in *intake, raw []byte) (*received, Request) {
	t.Helper()
	codec := ""
	if strings.HasPrefix(string(raw), "{") {
		codec = codecJSON
	}
	came := newReceived(codec, in.method.Descriptor.Input(), in.shelf.ours)
	if err := came.Take(raw, codec == codecJSON); err != nil {
		t.Fatal(err)
	}
	request, err := came.request(in.shelf.name(arithmeticv1connect.SumServiceName))
	if err != nil {
		t.Fatal(err)
	}
	return came, request
}

// Two requests under one key are compared by the schema of the first one, as far as that can be had: the same message
// is the same request, however it was written. Where nobody can tell, nobody is told that they are the same.
func TestRequestsAreCompared(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	m := newFake(t, store, nil)
	in := &intake{shelf: m.shelf, method: m.cfg.Schemas.Method(arithmeticv1connect.SumServiceSumProcedure)}
	ours := m.shelf.name(arithmeticv1connect.SumServiceName)
	store.schemas["same"] = m.shelf.snapshot(arithmeticv1connect.SumServiceName).raw
	store.schemas["broken"] = []byte("no schema")
	binary := func(a, b float64) []byte {
		raw, err := proto.Marshal(&arithmeticv1.SumRequest{A: a, B: b})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	more := protowire.AppendVarint(protowire.AppendTag(binary(1, 2), 1000, protowire.VarintType), 7)
	yes, no := error(nil), errors.New("no")
	for name, c := range map[string]struct {
		first, second []byte
		schema        string // of the first; empty: it is of an older release
		want          error  // yes, no, or why nobody can tell
	}{
		"the same bytes":                            {binary(1, 2), binary(1, 2), ours, yes},
		"other numbers":                             {binary(1, 2), binary(1, 3), ours, no},
		"the same in JSON":                          {binary(1, 2), []byte(`{ "b": 2, "a": 1 }`), ours, yes},
		"in JSON, other numbers":                    {[]byte(`{"a":1}`), []byte(`{"a":2}`), ours, no},
		"with a field of a later schema":            {more, more, ours, yes},
		"with and without such a field":             {more, binary(1, 2), ours, no},
		"with such a field, or JSON, which lost it": {more, []byte(`{"a":1,"b":2}`), ours, errIncomparable},
		"by another schema, the same":               {binary(1, 2), binary(1, 2), "same", yes},
		"by another schema, other numbers":          {binary(1, 2), binary(2, 2), "same", no},
		"by another schema, JSON and proto":         {binary(1, 2), []byte(`{"a":1,"b":2}`), "same", yes},
		"by a schema that is gone":                  {binary(1, 2), binary(1, 2), "none", errIncomparable},
		"by a schema that is none":                  {binary(1, 2), binary(1, 2), "broken", errIncomparable},
		"JSON of a later schema, the same bytes":    {[]byte(`{"a":1,"c":3}`), []byte(`{"a":1,"c":3}`), "", yes},
		"JSON of a later schema, other bytes":       {[]byte(`{"a":1,"c":3}`), []byte(`{"a":1,"c":4}`), "", errIncomparable},
		"of an older release, the same":             {binary(1, 2), binary(1, 2), "", yes},
		"of an older release, in JSON":              {[]byte(`{"a":1,"b":2}`), binary(1, 2), "", yes},
		"of an older release, other numbers":        {[]byte(`{"a":1,"b":2}`), []byte(`{"a":2,"b":2}`), "", no},
		"of an older release, in proto, others":     {binary(1, 2), binary(2, 2), "", errIncomparable},
	} {
		firstCame, first := sumCall(t, in, c.first)
		came, request := sumCall(t, in, c.second)
		first.Schema = c.schema
		call := &momv1.Call{Message: c.first, Codec: firstCame.codec}
		same, err := request.Fingerprint == first.Fingerprint && request.Schema == first.Schema, error(nil)
		if !same {
			same, err = in.sameAs(t.Context(), came, request, &KeyReusedError{First: first, Call: call})
		}
		want := c.want
		if got := same && err == nil; got != (want == nil) || (want == no) != (!same && err == nil) || want == errIncomparable && !errors.Is(err, want) { //nolint:errorlint // the table's own
			t.Errorf("%s: got %v, %v, want %v", name, same, err, c.want)
		}
	}
	came, request := sumCall(t, in, binary(1, 2))
	store.fail = func(string) error { return ErrUnavailable }
	if _, err := in.sameAs(t.Context(), came, request, &KeyReusedError{First: Request{Schema: "later"}}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("of a store that is away: got %v, want unavailable", err)
	}
	store.fail = nil
	if _, err := in.sameAs(t.Context(), came, request, &KeyReusedError{First: Request{Fingerprint: "x"}}); !errors.Is(err, errIncomparable) {
		t.Errorf("of a call that was dropped: got %v, want that nobody can tell", err)
	}
}

// An answer is given in the codec of its reader, as it came where that is the same, and else by the schema that it was
// written by. A reader for whom that cannot be done hears why, and how the answer can be read.
func TestAnswersAreRead(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	m := newFake(t, store, nil)
	ours := m.shelf.name(arithmeticv1connect.SumServiceName)
	store.schemas["same"] = m.shelf.snapshot(arithmeticv1connect.SumServiceName).raw
	raw, err := proto.Marshal(&arithmeticv1.SumResponse{Result: 3})
	if err != nil {
		t.Fatal(err)
	}
	task := &momv1.Task{Id: sumID().String(), Procedure: arithmeticv1connect.SumServiceSumProcedure}
	inJSON := func(text, schema string) *momv1.Answer {
		return &momv1.Answer{Schema: schema, Result: &momv1.Answer_Json{Json: []byte(text)}}
	}
	inProto := func(url string, value []byte, schema string) *momv1.Answer {
		return &momv1.Answer{Schema: schema, Result: &momv1.Answer_Message{Message: &anypb.Any{TypeUrl: "type.googleapis.com/" + url, Value: value}}}
	}
	const response = "arithmetic.v1.SumResponse"
	other := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7) // its field is a double
	for name, c := range map[string]struct {
		answer *momv1.Answer
		codec  string
		want   string // empty: it cannot be read
	}{
		"JSON as JSON":                  {inJSON(`{ "result": 3 }`, ours), codecJSON, `{ "result": 3 }`},
		"JSON as proto":                 {inJSON(`{ "result": 3 }`, ours), "", string(raw)},
		"JSON as proto, by another":     {inJSON(`{"result":3}`, "same"), "proto", string(raw)},
		"JSON of nothing":               {inJSON("", ours), codecJSON, "{}"},
		"JSON that is none":             {inJSON(`{"result":`, ours), "", ""},
		"JSON by a schema that is gone": {inJSON(`{"result":3}`, "none"), "", ""},
		"proto as proto":                {inProto(response, raw, ours), "", string(raw)},
		"proto as JSON":                 {inProto(response, raw, ours), codecJSON, `{"result":3}`},
		"proto as JSON, by another":     {inProto(response, raw, "same"), codecJSON, `{"result":3}`},
		"proto that is none":            {inProto(response, []byte{0xff}, ours), codecJSON, ""},
		"proto with another field":      {inProto(response, other, ours), codecJSON, ""},
		"proto of a type that is gone":  {inProto("nobody.v1.Response", raw, ours), codecJSON, ""},
	} {
		got, err := m.shelf.answerAs(t.Context(), c.codec, task, c.answer)
		switch {
		case c.want == "" && contract.ReasonOf(err) != momv1.Reason_REASON_ANSWER_UNREADABLE:
			t.Errorf("%s: got %q, %v, want ANSWER_UNREADABLE", name, got, err)
		case c.want == "" && !strings.Contains(err.Error(), "GET /v1/tasks/"+task.GetId()+"/answer"):
			t.Errorf("%s: got %v, want to hear how it can be read", name, err)
		case c.want != "" && (err != nil || string(got) != c.want):
			t.Errorf("%s: got %q, %v, want %q", name, got, err, c.want)
		}
	}
	// TaskService shows messages whatever they came as, and bytes where no schema makes a message of them.
	shown := m.shelf.withMessage(t.Context(), task, inJSON(`{"result":3}`, ours))
	if got := shown.GetMessage(); got.MessageName() != response || string(got.GetValue()) != string(raw) {
		t.Errorf("shown: got %v, want the message", shown)
	}
	shown = m.shelf.withMessage(t.Context(), task, inJSON(`{"result":3}`, "none"))
	unknown := new(momv1.UnknownMessage)
	if err := shown.GetMessage().UnmarshalTo(unknown); err != nil || string(unknown.GetValue()) != `{"result":3}` {
		t.Errorf("shown without a schema: got %v, %v, want its bytes", shown, err)
	}
	store.fail = func(string) error { return ErrUnavailable }
	if _, err := m.shelf.answerAs(t.Context(), "", task, inJSON(`{}`, "later")); contract.ReasonOf(err) != momv1.Reason_REASON_STORE_UNAVAILABLE {
		t.Errorf("of a store that is away: got %v, want STORE_UNAVAILABLE", err)
	}
}

// A task is shown whatever its answer has in it: what no schema makes JSON of is shown as bytes.
func TestUnknownMessagesAreShown(t *testing.T) {
	t.Parallel()
	m := newFake(t, newFakeStore(), nil)
	known, err := anypb.New(&arithmeticv1.SumResponse{Result: 3})
	if err != nil {
		t.Fatal(err)
	}
	unknown := &anypb.Any{TypeUrl: "type.googleapis.com/nobody.v1.Detail", Value: []byte("abc")}
	task := &momv1.GetTaskResponse{Answer: &momv1.Answer{Result: &momv1.Answer_Error{Error: &momv1.CallError{Code: 5, Details: []*anypb.Any{known, unknown}}}}}
	var shown strings.Builder
	if err := newJSONCodec(m.shelf).MarshalWrite(t.Context(), &shown, task); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(shown.String(), " ", "")
	for _, want := range []string{`"@type":"type.googleapis.com/arithmetic.v1.SumResponse","result":3`, "mom.v1.UnknownMessage", `"typeUrl":"type.googleapis.com/nobody.v1.Detail"`, `"value":"YWJj"`} {
		if !strings.Contains(text, want) {
			t.Errorf("got %s, want %s", text, want)
		}
	}
}

// An error of the store is no word about the task that was asked for: a gateway asks another MOM then.
func TestErrorsOfTheStoreAreNotTheTasks(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	m := newFake(t, store, nil)
	s := &taskService{store: store, shelf: m.shelf, shards: m.shards, waiters: m.waiters, draining: m.draining, once: m.once}
	id := testID()
	store.tasks[id] = &fakeTask{NewTask: NewTask{Call: &momv1.Call{}}}
	for _, err := range []error{storeError(ErrUnavailable), connect.NewError(connect.CodeUnavailable, "closed for lunch")} {
		req, res := httptest.NewRequest(http.MethodGet, "/v1/tasks/"+id.String()+"/answer", http.NoBody), httptest.NewRecorder()
		req.SetPathValue("id", id.String())
		s.serve(func(*http.Request, *momv1.Task, *momv1.Answer) (string, []byte, error) { return "", nil, err })(res, req)
		if named, its := res.Header().Get(contract.HeaderTask) != "", contract.ReasonOf(err) == 0; named != its || res.Code != http.StatusServiceUnavailable {
			t.Errorf("%v: got %d, which names the task: %v, want %v", err, res.Code, named, its)
		}
	}
}
