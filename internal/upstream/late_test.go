package upstream_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"holdline/internal/upstream"
)

// HTTP/2 may still be about to write a request when its attempt has ended. What
// was said not to be sent must not be sent after that.
func TestNotSentLater(t *testing.T) {
	t.Parallel()
	for name, req := range map[string]upstream.Request{
		"message":              {Body: []byte("{}")},
		"message to a MOM":     {Body: []byte("{}"), OneWrite: true},
		"empty message":        {},
		"empty message to MOM": {OneWrite: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun, ended := make(chan struct{}), make(chan struct{})
			whole := make(chan bool, 1) // the request arrived to its end
			var conns atomic.Int64
			endpoint := listen(t, func(conn net.Conn) {
				if conns.Add(1) > 1 {
					return // asked for its health; to close is a sign of life
				}
				in := bufio.NewReader(conn)
				_, _ = io.ReadFull(in, make([]byte, len(http2.ClientPreface)))
				frames := http2.NewFramer(conn, in)
				_ = frames.WriteSettings()
				for {
					frame, err := frames.ReadFrame()
					if err != nil {
						whole <- false
						return
					}
					if frame.Header().StreamID == 1 {
						if frame.Header().Flags.Has(http2.FlagDataEndStream) { // asked for its health on this one, too
							_ = frames.WriteRSTStream(1, http2.ErrCodeInternal)
						}
						continue
					}
					switch f := frame.(type) {
					case *http2.HeadersFrame:
						// More headers than fit between us: the rest waits.
						close(begun)
						<-ended
						if f.StreamEnded() {
							whole <- true
							return
						}
					case *http2.DataFrame:
						if f.StreamEnded() {
							whole <- true
							return
						}
					case *http2.RSTStreamFrame:
						whole <- false
						return
					}
				}
			})
			pool := upstream.NewPool(upstream.Config{Service: "a.B", Endpoints: []*url.URL{endpoint}, Log: slog.New(slog.DiscardHandler)})
			t.Cleanup(pool.Close)
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				<-begun
				cancel(upstream.ErrTryTimeout)
			}()
			req.Method, req.URL, req.HTTPMajor = http.MethodPost, &url.URL{Path: "/a.B/C"}, 2
			req.Length, req.Look = int64(len(req.Body)), true
			req.Header = http.Header{"Large": {strings.Repeat("large", 4<<20)}}
			res, outcome, _ := pool.Pick().Try(ctx, &req)
			res.Drop()
			close(ended)
			select {
			case got := <-whole:
				if got && outcome.Kind != upstream.Broken {
					t.Errorf("outcome = %+v of a request that arrived, want a broken one", outcome)
				}
			case <-time.After(20 * time.Second):
				t.Error("the request neither arrived nor ended")
			}
		})
	}
}
