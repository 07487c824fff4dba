package mom

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	arithmeticv1 "holdline/gen/arithmetic/v1"
	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/bridge"
	"holdline/internal/contract"
	"holdline/internal/secret"
	"holdline/internal/server"
	"holdline/internal/server/servertest"
	"holdline/internal/wire"
)

// steadyStore is a store in which all tasks expire at the same time, and a task whose id is known has an answer.
type steadyStore struct {
	*fakeStore
	reused bool // every key was
}

var steadyTime = time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)

func (s steadyStore) Add(ctx context.Context, task NewTask) (Added, error) {
	if s.reused && task.KeyHash != "" {
		return Added{}, &KeyReusedError{First: Request{Fingerprint: "of another", Known: "of another", Schema: task.Schema}}
	}
	added, err := s.fakeStore.Add(ctx, task)
	added.ExpireTime = steadyTime
	return added, err
}

// told is all that a caller reads.
type told struct {
	status           int
	header, trailers http.Header
	body             string
	informed         []string
	err              string
}

func (t told) String() string {
	return fmt.Sprintf("HTTP %d\n%v\n%q\n%v\n%v %s", t.status, t.header, t.body, t.trailers, t.informed, t.err)
}

// Calls that are served in few steps get what all others get: so each is made twice, of a MOM that serves it so and of one that does not.
func TestPlainIsAsAnyOther(t *testing.T) {
	t.Parallel()
	message, err := proto.Marshal(&arithmeticv1.SumRequest{A: 1, B: 2})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := proto.Marshal(&arithmeticv1.SumResponse{Result: 3})
	if err != nil {
		t.Fatal(err)
	}
	enveloped := func(message []byte) string {
		return string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))) + string(message)
	}
	shared := secret.Random()
	shown := http.Header{}
	shared.Show(shown)
	of := func(message []byte) *momv1.Answer_Message {
		return &momv1.Answer_Message{Message: &anypb.Any{TypeUrl: "type.googleapis.com/arithmetic.v1.SumResponse", Value: message}}
	}
	answers := map[string]*momv1.Answer{
		"a message":        {RecordVersion: 1, Result: of(answer), Header: []*momv1.Metadata{{Key: "X-Said", Values: []string{"one", "two"}}, {Key: "Keep-Alive", Values: []string{"timeout=5"}}}, Trailer: []*momv1.Metadata{{Key: "X-Last", Values: []string{"three"}}}},
		"an empty message": {RecordVersion: 1, Result: of(nil)},
		"JSON":             {RecordVersion: 3, Result: &momv1.Answer_Json{Json: []byte(`{"result": 3}`)}},
		"Latin-1":          {RecordVersion: 2, Result: of(answer), Header: []*momv1.Metadata{{Key: "X-Said", RawValues: [][]byte{{'M', 0xfc, 'l', 'l'}}}}},
		"what is none":     {RecordVersion: 1, Result: of([]byte{1, 2, 3})},
		"an error": {RecordVersion: 1, Result: &momv1.Answer_Error{Error: &momv1.CallError{Code: 9, Message: "100 % wrong: \"ü\"", Details: []*anypb.Any{
			{TypeUrl: "type.googleapis.com/arithmetic.v1.SumResponse", Value: answer}, {TypeUrl: "acme.example/acme.v1.None", Value: []byte{1}},
		}}}, Trailer: []*momv1.Metadata{{Key: "X-Last", Values: []string{"three"}}}},
	}
	type cased struct {
		headers  []string // beside "Prefer: respond-async", or with - taken away, or with + once more
		body     string   // instead of the message
		ready    bool
		answered string
		state    momv1.TaskState
		fails    error
		reused   bool
	}
	cases := map[string]cased{
		"stored":               {},
		"nothing twice":        {headers: []string{"-X-Twice"}},
		"held for a moment":    {headers: []string{"Prefer: respond-async, wait=1", "Connect-Timeout-Ms: 150", "Grpc-Timeout: 150m"}},
		"a deadline that ends": {headers: []string{"-Prefer", "Connect-Timeout-Ms: 30", "Grpc-Timeout: 30m"}},
		"with a key":           {headers: []string{"Idempotency-Key: k", "Holdline-Cause: dns", "X-Other: ü"}},
		"a key of another":     {headers: []string{"Idempotency-Key: k"}, reused: true},
		"of HTTP/1.1":          {headers: []string{"Holdline-Http: 1"}},
		"of HTTP/3":            {headers: []string{"Holdline-Http: 3"}},
		"an odd key":           {headers: []string{"Idempotency-Key: ü"}},
		"an odd time to live":  {headers: []string{"Holdline-Ttl: soon"}},
		"no id":                {headers: []string{"-Holdline-Task", "Prefer: respond-async, wait=0"}},
		"an odd id":            {headers: []string{"Holdline-Task: mine"}},
		"an odd caller":        {headers: []string{"Holdline-Caller: \xfc"}},
		"a stranger":           {headers: []string{"Holdline-Secret: guessed"}},
		"no secret":            {headers: []string{"-Holdline-Secret"}},
		"an operator":          {headers: []string{"Holdline-Operator: 127.0.0.1"}},
		"no message":           {body: "{"},
		"nothing":              {body: "-"},
		"a wrong envelope":     {body: "\x00\x00\x00\x00\x09{}"},
		"more than a message":  {body: enveloped([]byte{}) + enveloped([]byte{})},
		"compressed":           {headers: []string{"Content-Encoding: gzip", "Grpc-Encoding: gzip"}},
		"not compressed":       {headers: []string{"Content-Encoding: identity", "Grpc-Encoding: identity"}},
		"an odd deadline":      {headers: []string{"Connect-Timeout-Ms: -1", "Grpc-Timeout: 1x"}},
		"two deadlines":        {headers: []string{"Connect-Timeout-Ms: 30000", "+Connect-Timeout-Ms: 1", "Grpc-Timeout: 30S", "+Grpc-Timeout: 1m"}},
		"two cookies":          {headers: []string{"Cookie: a=1", "+Cookie: b=2"}},
		"another version":      {headers: []string{"Connect-Protocol-Version: 2"}},
		"this version":         {headers: []string{"Connect-Protocol-Version: 1"}},
		"a full queue":         {fails: ErrQueueFull},
		"a silent store":       {fails: ErrUnavailable},
		"no store":             {fails: ErrNotSent},
		"a broken store":       {fails: io.ErrClosedPipe},
		"not ready":            {ready: true},
		"large":                {body: `{"a":1,` + strings.Repeat(" ", wire.MaxPlain) + `"b":2}`},
	}
	for name := range answers {
		cases["answered with "+name] = cased{answered: name, state: momv1.TaskState_TASK_STATE_SUCCEEDED}
		cases["packed: "+name] = cased{answered: name, state: momv1.TaskState_TASK_STATE_SUCCEEDED, headers: []string{"Accept-Encoding: br, gzip", "Grpc-Accept-Encoding: gzip"}}
	}
	for _, state := range []momv1.TaskState{momv1.TaskState_TASK_STATE_DEAD, momv1.TaskState_TASK_STATE_EXPIRED, momv1.TaskState_TASK_STATE_CANCELLED, momv1.TaskState_TASK_STATE_UNCERTAIN} {
		cases[contract.StateName(state)] = cased{state: state}
	}
	for name, c := range cases {
		for _, mediaType := range []string{"application/json", "application/proto", "application/grpc", "application/grpc+proto", "application/grpc+json", "application/grpc-web", "text/plain"} {
			t.Run(name+" as "+mediaType, func(t *testing.T) {
				t.Parallel()
				id := sumID()
				said := map[bool]told{}
				kept := map[bool]*NewTask{}
				for _, plain := range []bool{true, false} {
					store := newFakeStore()
					if c.fails != nil {
						store.fail = func(method string) error {
							if method == "add" {
								return c.fails
							}
							return nil
						}
					}
					m := newFakeOf(t, steadyStore{store, c.reused}, func(cfg *Config) { cfg.Secret = shared })
					m.ready.Store(!c.ready)
					if c.state != 0 {
						store.tasks[id] = &fakeTask{state: c.state, answer: answers[c.answered], NewTask: NewTask{Call: &momv1.Call{Procedure: arithmeticv1connect.SumServiceSumProcedure}}}
					}
					counted := &plainly{MOM: m}
					handler := http.Handler(counted)
					if !plain {
						handler = http.HandlerFunc(m.ServeHTTP)
					}
					addr, _ := servertest.Run(t, server.Config{Handler: handler, Engine: wire.Own})
					header := http.Header{"Content-Type": {mediaType}, "Holdline-Task": {id.String()}, "X-Twice": {"1", "2"}, "Prefer": {"respond-async"}, contract.HeaderSecret: shown[contract.HeaderSecret]}
					for _, h := range c.headers {
						if key, less := strings.CutPrefix(h, "-"); less {
							delete(header, key)
							continue
						}
						key, value, _ := strings.Cut(h, ": ")
						if key, more := strings.CutPrefix(key, "+"); more {
							header.Add(key, value)
							continue
						}
						header.Set(key, value)
					}
					body := string(message)
					if strings.Contains(mediaType, "json") {
						body = `{"a":1,"b":2}`
					}
					if c.body != "" {
						body = strings.TrimPrefix(c.body, "-")
					}
					if strings.Contains(mediaType, "grpc") && !strings.HasPrefix(body, "\x00") {
						body = enveloped([]byte(body))
					}
					said[plain] = ask(t, addr, header, body)
					if inFew := bridge.ReadPlain(&wire.Request{Header: []hpack.HeaderField{{Name: "content-type", Value: mediaType}}, Body: []byte(enveloped(nil))}) != nil; plain && name == "stored" && counted.served.Load() != inFew {
						t.Errorf("served in few steps: %v, want %v", !inFew, inFew)
					}
					for _, task := range store.tasks {
						if task.Call.GetMessage() != nil {
							kept[plain] = &task.NewTask
						}
					}
				}
				if said[true].String() != said[false].String() {
					t.Errorf("in few steps:\n%s\nelse:\n%s", said[true], said[false])
				}
				if told := said[true]; name == "dead" && mediaType == "application/grpc" && told.trailers.Get(contract.HeaderTask) != id.String() {
					t.Errorf("the trailers of a dead task are %v, want its id", told.trailers)
				}
				if name == "stored" && kept[true] != nil {
					at := slices.IndexFunc(kept[true].Call.GetHeader(), func(m *momv1.Metadata) bool { return m.GetKey() == "X-Twice" })
					if at < 0 || !slices.Equal(kept[true].Call.GetHeader()[at].GetValues(), []string{"1", "2"}) {
						t.Errorf("the record keeps %v, want X-Twice with both values", kept[true].Call.GetHeader())
					}
				}
				if major := int32(2); kept[true] != nil {
					if name == "of HTTP/1.1" {
						major = 1
					}
					if got := kept[true].Call.GetHttpMajor(); got != major {
						t.Errorf("it is to be replayed over HTTP/%d, want %d", got, major)
					}
				}
				if got, want := recordOf(kept[true]), recordOf(kept[false]); got != want {
					t.Errorf("stored in few steps:\n%s\nelse:\n%s", got, want)
				}
			})
		}
	}
}

// What is said takes the place of what was said under the same name, also where that is empty.
func TestSaidHeaders(t *testing.T) {
	t.Parallel()
	var said headers
	said.Set("A", "")
	said.Set("B", "1")
	said.Set("A", "2")
	said.add([]*momv1.Metadata{{Key: "B", Values: []string{"3", "4"}}, {Key: "C", RawValues: [][]byte{{0xfc}}}})
	said.add(nil)
	want := headers{{Name: "A", Value: "2"}, {Name: "B", Value: "3"}, {Name: "B", Value: "4"}, {Name: "C", Value: "\xfc"}}
	if !slices.Equal(said, want) || said.Get("B") != "3" || said.Get("D") != "" {
		t.Errorf("got %v, want %v", said, want)
	}
	if said.Delete("B"); said.Get("B") != "" {
		t.Errorf("B is still in %v", said)
	}
}

// Who is held in few steps gets a handle when the MOM drains, and counts as lost when it has left.
func TestPlainHoldsEnd(t *testing.T) {
	t.Parallel()
	for name, leaves := range map[string]bool{"the caller leaves": true, "the MOM drains": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newFake(t, newFakeStore(), nil)
			counted := &plainly{MOM: m}
			addr, _ := servertest.Run(t, server.Config{Handler: counted, Engine: wire.Own})
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error {
				if leaves {
					leave()
				} else {
					m.Drain()
				}
				return nil
			}})
			said := askWith(ctx, t, addr, http.Header{"Content-Type": {"application/json"}, contract.HeaderTask: {sumID().String()}}, `{"a":1,"b":2}`)
			if leaves {
				<-m.lapses.added
				return
			}
			if said.status != http.StatusAccepted || !counted.served.Load() {
				t.Errorf("got %s, want a handle", said)
			}
		})
	}
}

// plainly notes whether a call was served in few steps.
type plainly struct {
	*MOM
	served atomic.Bool
}

func (p *plainly) ServePlain(req *wire.Request) (*wire.Response, http.Handler) {
	res, handler := p.MOM.ServePlain(req)
	p.served.Store(res != nil)
	return res, handler
}

// recordOf is what is stored of a call, but for ids that are made here.
func recordOf(task *NewTask) string {
	if task == nil {
		return "nothing"
	}
	call := proto.CloneOf(task.Call)
	slices.SortFunc(call.Header, func(a, b *momv1.Metadata) int { return strings.Compare(a.GetKey(), b.GetKey()) })
	return fmt.Sprintf("%v %d %v %s %v %v %v %+v %s", task.ID.Service, task.Offer, task.Repeatable, task.Cause, task.TTL, task.AnswerTTL, task.Kept, task.Request, call)
}

// newFakeOf is newFake with any store.
func newFakeOf(t *testing.T, store Store, configure func(*Config)) *MOM {
	t.Helper()
	m := newFake(t, newFakeStore(), configure)
	m.cfg.Metrics = nil
	m, err := New(m.cfg, store)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// ask makes a call over HTTP/2.
func ask(t *testing.T, addr string, header http.Header, body string) (said told) {
	t.Helper()
	var informed []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		informed = append(informed, fmt.Sprint(code, header.Get(contract.HeaderTask) != "", header.Get(contract.HeaderExpires)))
		return nil
	}})
	said = askWith(ctx, t, addr, header, body)
	said.informed = informed
	return said
}

// askWith is ask with a context.
func askWith(ctx context.Context, t *testing.T, addr string, header http.Header, body string) (said told) {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true, DialContext: (&net.Dialer{}).DialContext}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+arithmeticv1connect.SumServiceSumProcedure, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	res, err := transport.RoundTrip(req)
	if err != nil {
		said.err = err.Error()
		return said
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		said.err = err.Error()
	}
	said.status, said.header, said.trailers, said.body = res.StatusCode, res.Header, maps.Clone(res.Trailer), string(raw)
	for _, of := range []http.Header{said.header, said.trailers} {
		for key, values := range of {
			slices.Sort(values)
			of[key] = values
		}
	}
	delete(said.header, "Date")
	if strings.Contains(header.Get("Content-Type"), "grpc") || len(raw) > 4<<10 {
		delete(said.header, "Content-Length")
	}
	if _, minted := header["Holdline-Task"]; !minted { // each MOM mints its own id
		id := res.Header.Get(contract.HeaderTask)
		said.body = strings.ReplaceAll(said.body, id, "ID")
		for _, of := range []http.Header{said.header, said.trailers} {
			for key, values := range of {
				for i := range values {
					values[i] = strings.ReplaceAll(values[i], id, "ID")
				}
				if key == "Grpc-Status-Details-Bin" {
					delete(of, key)
				}
			}
		}
		said.body = valueOfID.ReplaceAllString(said.body, "")
	}
	return said
}

// valueOfID is what has an id in base64.
var valueOfID = regexp.MustCompile(`"value":"[^"]*"|grpc-status-details-bin: \S*`)

// soon is a store that takes everything, and keeps nothing.
type soon struct{ *fakeStore }

func (soon) Add(_ context.Context, task NewTask) (Added, error) {
	return Added{ID: task.ID, ExpireTime: steadyTime}, nil
}

// handing is a gateway that hands a call off.
type handing struct{ message []byte }

func (h handing) Body(time.Duration) ([]byte, bool)      { return h.message, true }
func (handing) News() <-chan struct{}                    { return nil }
func (handing) Context(time.Duration) context.Context    { return context.Background() }
func (handing) Inform(status int, _ []hpack.HeaderField) {}

// BenchmarkStoredCall is what a MOM does with a call whose caller wants a handle, but for the store's part and HTTP's.
func BenchmarkStoredCall(b *testing.B) {
	m := newFake(b, newFakeStore(), nil)
	m.cfg.Metrics = nil
	m, err := New(m.cfg, soon{newFakeStore()})
	if err != nil {
		b.Fatal(err)
	}
	m.ready.Store(true)
	for _, name := range []string{"application/json", "application/json with a key", "application/grpc", "application/grpc with a key"} {
		b.Run(name, func(b *testing.B) {
			mediaType, keyed := strings.CutSuffix(name, " with a key")
			key := []hpack.HeaderField{{Name: "idempotency-key", Value: "k"}}
			if !keyed {
				key = nil
			}
			message := []byte(`{"a":1,"b":2}`)
			if mediaType == "application/grpc" {
				message = []byte("\x00\x00\x00\x00\x12\x09\x00\x00\x00\x00\x00\x00\xf0\x3f\x11\x00\x00\x00\x00\x00\x00\x00\x40")
			}
			id := sumID().String()
			b.ReportAllocs()
			for b.Loop() {
				res, _ := m.ServePlain(&wire.Request{
					Major: 2, Path: arithmeticv1connect.SumServiceSumProcedure, Caller: handing{message}, Header: append([]hpack.HeaderField{
						{Name: "content-type", Value: mediaType}, {Name: "prefer", Value: "respond-async"}, {Name: "user-agent", Value: "benchmark"},
						{Name: "holdline-task", Value: id}, {Name: "holdline-caller", Value: contract.Anonymous},
						{Name: "holdline-offer", Value: "1"}, {Name: "holdline-http", Value: "1"}, {Name: "content-length", Value: "13"},
					}, key...),
				})
				if res == nil || res.Status != http.StatusAccepted && res.Status != http.StatusOK {
					b.Fatalf("got %+v", res)
				}
			}
		})
	}
}
