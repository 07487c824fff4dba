package upstream

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"holdline/internal/freeport"
)

// mute accepts connections on a loopback address, and says nothing.
func mute(tb testing.TB) (url string) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts: the kernel does
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	return "http://" + ln.Addr().String()
}

// A node that is cut off takes all its endpoints along: a call that waited for one
// of them is not made to wait for the next, though that had no call.
func TestSilentTogether(t *testing.T) {
	t.Parallel()
	p := openPool(t, nil, mute(t), mute(t), fit(t))
	all := p.Endpoints()
	_, outcome, err := all[0].Try(t.Context(), &Request{Method: http.MethodPost, URL: &url.URL{Path: "/"}, HTTPMajor: 1, Header: http.Header{}})
	if err == nil || outcome.Cause != Silent {
		t.Fatalf("got %v, %v; want the cause %q", outcome, err, Silent)
	}
	for deadline := time.Now().Add(signTimeout); !all[1].silent.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the one beside it is not known to be silent")
		}
	}
	if all[2].silent.Load() || all[2].ejected.Load() {
		t.Error("one that answers its health is taken for silent")
	}
}

// fit serves the health of the service.
func fit(tb testing.TB) (url string) {
	tb.Helper()
	addr := freeport.Addr(tb)
	replica(tb, addr, service)
	return "http://" + addr
}

// One whose calls are fresh is not asked before its time because of another.
func TestDoubtLeavesFreshCalls(t *testing.T) {
	t.Parallel()
	busy, asked := make(chan struct{}), make(chan struct{}, 10)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			asked <- struct{}{}
			return
		}
		close(busy)
		<-r.Context().Done()
	}))
	defer s.Close()
	p := openPool(t, nil, mute(t), s.URL)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	go func() {
		_, _, _ = p.Endpoints()[1].Try(ctx, &Request{Method: http.MethodPost, URL: &url.URL{Path: "/"}, HTTPMajor: 1, Header: http.Header{}})
	}()
	<-busy
	began := time.Now()
	p.Endpoints()[0].doubt()
	select {
	case <-asked:
		if took := time.Since(began); took < firstPatience/2 {
			t.Errorf("asked after %v", took)
		}
	case <-time.After(2 * watchPause):
	}
}
