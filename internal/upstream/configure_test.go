package upstream

import (
	"context"
	"log/slog"
	"net/url"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"holdline/internal/freeport"
)

// routeTo is a configuration with other endpoints.
func routeTo(urls ...string) Config {
	cfg := Config{Service: service, Log: slog.New(slog.DiscardHandler)}
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil {
			panic(err)
		}
		cfg.Endpoints = append(cfg.Endpoints, u)
	}
	return cfg
}

// Endpoints that stay are the same ones, with what they have shown; those that go are closed.
func TestConfigure(t *testing.T) {
	t.Parallel()
	const one, two, three = "http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"
	p := openPool(t, nil, one, two)
	json, before := p.lacks["application/json"], p.Endpoints()
	before[0].lacksOne(json)
	p.named.Store(true)

	p.Configure(routeTo(two, one))
	if got := p.Endpoints(); !slices.Equal(got, []*Endpoint{before[1], before[0]}) {
		t.Errorf("in another order: endpoints are %v, want the same ones", got)
	}
	if _, lacks := p.Lacks("application/json"); !lacks || !p.picky.Load() || !p.named.Load() {
		t.Error("in another order: what the service has shown is forgotten")
	}

	p.Configure(routeTo(two, three))
	after := p.Endpoints()
	if len(after) != 2 || after[0] != before[1] || after[1].String() != three {
		t.Errorf("endpoints are %v, want the second one and a new one", after)
	}
	if !before[0].gone.Load() || before[1].gone.Load() {
		t.Error("the endpoint that went is not closed, or another one is")
	}
	if _, lacks := p.Lacks("application/json"); lacks || p.picky.Load() || p.named.Load() {
		t.Error("a new endpoint: what the service has shown is not forgotten")
	}

	only := routeTo(two, three)
	only.HTTP, only.Protocol, only.Health = OnlyHTTP1, OnlyConnect, HealthDial
	p.Configure(only)
	if got := p.Endpoints(); got[0] == after[0] || got[0].SpeaksHTTP2() {
		t.Error("another version of HTTP: the endpoints are the old ones")
	}
	if cause, _ := p.Lacks("application/grpc"); cause != UnknownProtocol {
		t.Errorf("another protocol: gRPC is lacking for %q", cause)
	}

	for range 3 { // an endpoint that is named twice is one
		p.Configure(routeTo(one, one))
	}
	if got := len(slices.Compact(slices.Clone(p.Endpoints()))); got > 2 {
		t.Errorf("%d endpoints, want one or two", got)
	}
}

// A route that changes while its names are looked up has the last word.
func TestConfigureDuringLookup(t *testing.T) {
	t.Parallel()
	port := freeport.Port(t)
	replica(t, "127.0.0.21:"+port, service)
	replica(t, "127.0.0.22:"+port, service)
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	p := openPool(t, func(_ context.Context, host string) ([]string, error) {
		if host == "new" {
			return []string{"127.0.0.22"}, nil
		}
		asked <- struct{}{}
		<-answer
		return []string{"127.0.0.21"}, nil
	}, "http://old:"+port)
	<-asked
	p.Configure(routeTo("http://new:" + port))
	close(answer)
	for deadline := time.Now().Add(time.Minute); !slices.Equal(p.addrs(), []string{"127.0.0.22"}); time.Sleep(time.Millisecond) {
		if slices.Contains(p.addrs(), "127.0.0.21") || time.Now().After(deadline) {
			t.Fatalf("endpoints are %v, want that of the new name", p.addrs())
		}
	}
}

// Pools that are left are closed once nothing is under way there, and all of them at the end.
func TestLeaving(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		idle, busy := openPool(t, nil, "http://127.0.0.1:1"), openPool(t, nil, "http://127.0.0.1:2")
		busy.Endpoints()[0].inflight.Add(1)
		var l Leaving
		closed := 0
		l.Add(idle, func() { closed++ })
		l.Add(busy, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		time.Sleep(leavePause)
		synctest.Wait()
		if idle.ctx.Err() != nil {
			t.Error("a pool is closed at once: its last call may be between two tries")
		}
		time.Sleep(2 * leavePause)
		synctest.Wait()
		if idle.ctx.Err() == nil || busy.ctx.Err() != nil || closed != 1 {
			t.Error("the idle pool is open, or the busy one is closed, or nobody was told")
		}
		cancel()
		if err := <-done; err != nil || busy.ctx.Err() == nil {
			t.Errorf("at the end: %v, or the busy pool is open", err)
		}
	})
}

// Whoever waits for a service that has been down for long hears at once of its new place.
func TestAwaitHealthyAtANewPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := routeTo("http://127.0.0.1:1")
		cfg.Health = HealthDial
		p := newPool(cfg, nil)
		defer p.Close()
		looks := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan bool)
		go func() {
			done <- p.AwaitHealthy(ctx, func() bool {
				select {
				case looks <- struct{}{}:
				case <-ctx.Done():
				}
				return true
			})
		}()
		for began := time.Now(); time.Since(began) < longDown+longProbePause; {
			<-looks
		}
		synctest.Wait()
		last := time.Now()
		p.Configure(cfg)
		<-looks
		if waited := time.Since(last); waited >= longProbePause {
			t.Errorf("the new place was looked at after %s", waited)
		}
		cancel()
		<-done
	})
}
