package gateway_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
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
			t.Run(strings.ReplaceAll(p.name+" "+c.method.name, " ", "-"), func(t *testing.T) {
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
				if got := p.call(t, client(t, p.major), url, c.method); got.what != c.want {
					t.Errorf("got %q, decision %s; want %q", got.what, got.decision, c.want)
				}
			})
		}
	}
}
