package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdline/internal/freeport"
)

// A gateway whose time is up says what became of the calls that their services have not answered: those that may run twice are stored.
func TestEnd(t *testing.T) {
	t.Parallel()
	for _, p := range all {
		for _, c := range []struct {
			method method
			moms   bool
			want   string
		}{
			{add, true, unclear},
			{add, false, unclear},
			{get, true, "held"},
			{get, false, again},
		} {
			t.Run(strings.ReplaceAll(fmt.Sprint(p.name, " ", c.method.name, " MOM ", c.moms), " ", "-"), func(t *testing.T) {
				t.Parallel()
				called := make(chan struct{})
				service := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					if strings.HasPrefix(r.URL.Path, "/"+faultService+"/") {
						close(called)
					}
					<-r.Context().Done()
				}))
				var moms []string
				if c.moms {
					moms = append(moms, newStandIn(t, nil).addr)
				}
				g := newGateway(t, "http://"+service, moms...)
				url := "http://" + serve(t, g)
				go func() {
					<-called
					g.Drain()
					g.End()
				}()
				got := p.call(t, client(t, p.major), url, c.method)
				if got.what == handled { // the gateway drains
					got.what = "held"
				}
				if got.what != c.want || !strings.HasPrefix(got.decision, "direct;try=1;gateway-ends →") {
					t.Errorf("got %q, decision %s; want %q after one try", got.what, got.decision, c.want)
				}
			})
		}
	}
}

// Nor does it leave those in the dark whose calls a MOM has, which takes no word, or may have.
func TestEndOfHolds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method method
		taken  bool
		wait   string // for which the caller is held
		want   string
	}{
		{add, true, "300", unclear},
		{get, true, "300", unsure},
		{add, false, "300", unclear},
		{get, false, "300", unsure},
		{add, true, "1", handled}, // the hold ends by itself
	} {
		t.Run(fmt.Sprint(c.method.name, "-taken-", c.taken, "-", c.wait), func(t *testing.T) {
			t.Parallel()
			offered, asked := make(chan struct{}), make(chan struct{}, 9)
			mom := newStandIn(t, func(w http.ResponseWriter, r *http.Request, o offer) {
				if c.taken {
					accept(w, o)
				}
				if o.number == 1 {
					close(offered)
				}
				<-r.Context().Done()
			})
			mom.holds = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if strings.HasSuffix(r.URL.Path, "/KeepTasks") {
					asked <- struct{}{}
				}
				<-r.Context().Done()
			})
			g := newGateway(t, "http://"+freeport.Addr(t), mom.addr)
			url, ended := "http://"+serve(t, g), make(chan struct{})
			go func() {
				defer close(ended)
				<-offered
				g.Drain()
				if c.taken { // the gateway has heard that
					<-asked
				}
				if c.wait == "300" {
					g.End()
				}
			}()
			answered := make(chan said, 1)
			go func() { answered <- connect1.call(t, client(t, 1), url, c.method, "Prefer: wait="+c.wait) }()
			<-ended
			select {
			case got := <-answered:
				if got.what != c.want {
					t.Errorf("got %q, decision %s; want %q", got.what, got.decision, c.want)
				}
			case <-time.After(time.Minute):
				t.Error("no answer though the gateway has ended")
			}
		})
	}
}

// A service runs a stream before there is a message of it.
func TestEndOfStreams(t *testing.T) {
	t.Parallel()
	for _, m := range []method{watch, schemaless} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			called := make(chan struct{})
			service := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.URL.Path == m.path {
					close(called)
				}
				<-r.Context().Done()
			}))
			g := newGateway(t, "http://"+service)
			url := "http://" + serve(t, g)
			go func() {
				<-called
				g.Drain()
				g.End()
			}()
			body, caller := io.Pipe()
			defer func() { _ = caller.Close() }()
			res, err := client(t, 2).Do(request(t, url+m.path, body, "Content-Type: application/grpc"))
			if err != nil {
				t.Fatal(err)
			}
			if got := hear(res); got.what != unclear {
				t.Errorf("got %s, want %s", got.what, unclear)
			}
		})
	}
}

// A call that comes whole when the gateway has ended its tries is not sent any more.
func TestEndOfLateCalls(t *testing.T) {
	t.Parallel()
	service := newFaulty(t, fault{act: (*exchange).ok})
	g := newGateway(t, "http://"+service.addr, newStandIn(t, nil).addr)
	url := "http://" + serve(t, g)
	g.Drain()
	g.End()
	for _, p := range all {
		if got := p.call(t, client(t, p.major), url, add); got.what != "held" && got.what != handled {
			t.Errorf("%s: got %q, decision %s; want it stored", p.name, got.what, got.decision)
		}
	}
	if got := service.seen(); got != "0/0" {
		t.Errorf("the service saw %s calls", got)
	}
}
