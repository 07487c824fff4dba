package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// TestHangsUp has a peer that hangs up on one of its connections.
func TestHangsUp(t *testing.T) {
	t.Parallel()
	var came atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if came.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		echo(w, r)
	}))
	t.Cleanup(server.Close)
	loads := make([]*load, 4)
	for i := range loads {
		var err error
		if loads[i], err = newLoad(t.Context(), protocolConnect, server.Listener.Addr().String(), askEcho(1)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(loads[i].caller.close)
	}
	for range 2 { // a connection that has failed fails again
		if err := drive(loads, 1, 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		failed := 0
		for _, l := range loads {
			if l.err != nil {
				failed++
			} else if len(l.latencies) == 0 {
				t.Error("no call on a connection that works")
			}
		}
		if failed != 1 {
			t.Errorf("%d connections failed, want 1", failed)
		}
	}
}

// TestSlowAnswers has a peer that sends the rest of an answer when others have been answered.
func TestSlowAnswers(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocolNames(false) {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			var first, others atomic.Int64
			went := make(chan struct{})
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				said, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(bytes.NewReader(said))
				if first.Add(1) == 1 {
					w.Header().Set("Trailer", "Grpc-Message") // it is written in two parts
					_ = http.NewResponseController(w).Flush()
					select {
					case <-went:
					case <-r.Context().Done():
					}
				} else if others.Add(1) == 20 {
					close(went)
				}
				echo(w, r)
			}))
			server.Config.Protocols = both()
			server.Start()
			t.Cleanup(server.Close)
			var loads []*load
			for range 2 {
				l, err := newLoad(t.Context(), protocol, server.Listener.Addr().String(), askEcho(1))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(l.caller.close)
				loads = append(loads, l)
			}
			if err := drive(loads, 1, time.Second); err != nil {
				t.Fatal(err)
			}
			if n, err := others.Load(), errors.Join(loads[0].err, loads[1].err); n < 20 || err != nil {
				t.Errorf("%v; %d calls were answered while an answer was on its way, want 20", err, n)
			}
		})
	}
}
