package upstream

import (
	"context"
	"log/slog"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"holdline/internal/freeport"
)

// However long a service was down, up to ten minutes, half a second is enough to
// see it back.
func TestAwaitHealthyAfterAnOutage(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	started := make(chan struct{})
	go func() { // a listener would keep the bubble's clock from moving
		<-started
		replica(t, addr, service)
		started <- struct{}{}
	}()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p := NewPool(Config{Service: service, Endpoints: []*url.URL{{Scheme: "http", Host: addr}}, Log: slog.New(slog.DiscardHandler)})
		defer p.Close()
		began, looks, back := time.Now(), 0, time.Duration(0)
		healthy := p.AwaitHealthy(ctx, func() bool {
			looks++
			if back == 0 && time.Since(began) >= 10*time.Minute-time.Second {
				back = time.Since(began)
				started <- struct{}{}
				<-started
			}
			return true
		})
		if late := time.Since(began) - back; !healthy || late > 500*time.Millisecond {
			t.Errorf("healthy: %v, %s after the service was back, in %d looks", healthy, late, looks)
		}
	})
}
