package upstream

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"connectrpc.com/grpchealth"

	"holdline/internal/freeport"
)

const service = "test.v1.Service"

// replica serves grpc.health.v1 for a service at an address until it is stopped.
func replica(tb testing.TB, addr, name string) (stop func()) {
	tb.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(grpchealth.NewHandler(grpchealth.NewStaticChecker(name)))
	s := &http.Server{Handler: mux, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	stop = func() {
		_ = s.Close()
		<-done
	}
	tb.Cleanup(stop)
	return stop
}

func openPool(tb testing.TB, lookup func(context.Context, string) ([]string, error), urls ...string) *Pool {
	tb.Helper()
	var parsed []*url.URL
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil {
			tb.Fatal(err)
		}
		parsed = append(parsed, u)
	}
	p := newPool(Config{Service: service, Endpoints: parsed, Log: slog.New(slog.NewTextHandler(tb.Output(), nil))}, lookup)
	tb.Cleanup(p.Close)
	return p
}

func (p *Pool) addrs() (list []string) {
	for _, e := range *p.endpoints.Load() {
		host, _, _ := net.SplitHostPort(e.addr)
		list = append(list, host)
	}
	slices.Sort(list)
	return list
}

// The endpoints follow the resolver as long as it makes sense.
func TestResolve(t *testing.T) {
	t.Parallel()
	port := freeport.Port(t)
	stopOne := replica(t, "127.0.0.11:"+port, service)
	replica(t, "127.0.0.12:"+port, service)
	replica(t, "127.0.0.13:"+port, "another.v1.Service")

	answers := make(chan []string, 1) // what the resolver says next; nil is a failure
	lookup := func(context.Context, string) ([]string, error) {
		if addrs := <-answers; addrs != nil {
			return addrs, nil
		}
		return nil, errors.New("no answer")
	}
	// A pool without a name looks nothing up by itself; this one is given its
	// name now, so that only the test does.
	p := openPool(t, lookup, "http://127.0.0.1:"+port)
	u := &url.URL{Scheme: "http", Host: "service:" + port}
	p.says.Store(&said{Config: Config{Service: service, Endpoints: []*url.URL{u}}})
	p.endpoints.Store(&[]*Endpoint{newEndpoint(p, u, "")})
	for _, step := range []struct {
		name    string
		says    []string
		want    []string
		prepare func()
	}{
		{name: "one", says: []string{"127.0.0.11"}, want: []string{"127.0.0.11"}},
		{name: "two", says: []string{"127.0.0.12", "127.0.0.11"}, want: []string{"127.0.0.11", "127.0.0.12"}},
		{name: "failing", want: []string{"127.0.0.11", "127.0.0.12"}},
		{name: "empty", says: []string{}, want: []string{"127.0.0.11", "127.0.0.12"}},
		{name: "lying", says: []string{"127.0.0.13"}, want: []string{"127.0.0.11", "127.0.0.12"}},
		{name: "half lying", says: []string{"127.0.0.13", "127.0.0.12"}, want: []string{"127.0.0.12"}},
		{name: "nobody there", says: []string{"127.0.0.11"}, want: []string{"127.0.0.12"}, prepare: stopOne},
	} {
		if step.prepare != nil {
			step.prepare()
		}
		answers <- step.says
		p.update()
		if got := p.addrs(); !slices.Equal(got, step.want) {
			t.Fatalf("%s resolver: endpoints are %v, want %v", step.name, got, step.want)
		}
	}
}

func tryOnce(t *testing.T, e *Endpoint) Outcome {
	t.Helper()
	res, outcome, _ := e.Try(t.Context(), &Request{
		Method: http.MethodPost, URL: &url.URL{Path: "/grpc.health.v1.Health/Check"}, HTTPMajor: 1, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte("{}"), Length: 2, Look: true,
	})
	res.Drop()
	return outcome
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick, patience := time.NewTicker(10*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-patience:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// An endpoint that cannot be dialled is picked last, until it is healthy again.
func TestEjection(t *testing.T) {
	t.Parallel()
	port := freeport.Port(t)
	replica(t, "127.0.0.21:"+port, service)
	stop := replica(t, "127.0.0.22:"+port, service)
	p := openPool(t, nil, "http://127.0.0.21:"+port, "http://127.0.0.22:"+port)
	second := (*p.endpoints.Load())[1]
	stop()
	if got := tryOnce(t, second); got.Kind != NotSent {
		t.Fatalf("outcome = %+v, want not sent", got)
	}
	for range 50 {
		if p.Pick() == second {
			t.Fatal("picked an ejected endpoint")
		}
	}
	if got := p.Pick((*p.endpoints.Load())[0]); got != second {
		t.Errorf("with the other one tried already: picked %v", got)
	}
	replica(t, "127.0.0.22:"+port, service)
	eventually(t, "readmitted", func() bool { return p.Pick() == second })
}

// Of two endpoints the one with less under way is picked.
func TestLeastLoaded(t *testing.T) {
	t.Parallel()
	p := openPool(t, nil, "http://127.0.0.1:1", "http://127.0.0.1:2")
	all := *p.endpoints.Load()
	all[0].inflight.Add(1)
	for range 50 {
		if p.Pick() != all[1] {
			t.Fatal("picked the busy endpoint")
		}
	}
}
