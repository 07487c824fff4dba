package client_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"holdline/client"
)

// A gateway that is replaced while somebody waits is asked again; what it says of the task is final.
func TestWaitIsPatient(t *testing.T) {
	for name, test := range map[string]struct {
		last   string
		status int
		code   connect.Code
	}{
		"ended":   {`{"task":{"state":"TASK_STATE_SUCCEEDED"}}`, http.StatusOK, 0},
		"no task": {`{"code":"not_found"}`, http.StatusNotFound, connect.CodeNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				switch asked.Add(1) {
				case 1: // the gateway dies
					panic(http.ErrAbortHandler)
				case 2: // a proxy before it
					w.WriteHeader(http.StatusBadGateway)
				case 3:
					w.WriteHeader(http.StatusServiceUnavailable)
					_, _ = w.Write([]byte(`{"code":"unavailable","message":"the store is away"}`))
				case 4:
					_, _ = w.Write([]byte(`{"task":{"state":"TASK_STATE_QUEUED"}}`))
				default:
					w.WriteHeader(test.status)
					_, _ = w.Write([]byte(test.last))
				}
			}))
			t.Cleanup(gateway.Close)
			transport := connecthttp.NewTransport(gateway.Client(), gateway.URL, connecthttp.WithProtoJSON())
			_, _, err := client.New(connect.NewClient(transport)).Wait(t.Context(), "01", nil)
			if (err != nil || test.code != 0) && connect.CodeOf(err) != test.code {
				t.Errorf("err %v, want code %v", err, test.code)
			}
			if n := asked.Load(); n != 5 {
				t.Errorf("asked %d times, want 5", n)
			}
		})
	}
}

// A machine that does not answer a dial in time is asked again: it may be replaced.
func TestWaitDialsAgain(t *testing.T) {
	t.Parallel()
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"task":{"state":"TASK_STATE_SUCCEEDED"}}`))
	}))
	t.Cleanup(gateway.Close)
	var dials atomic.Int32
	dialler := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) == 1 {
			return nil, &net.OpError{Op: "dial", Net: network, Err: os.ErrDeadlineExceeded}
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}}
	transport := connecthttp.NewTransport(dialler, gateway.URL, connecthttp.WithProtoJSON())
	if _, _, err := client.New(connect.NewClient(transport)).Wait(t.Context(), "01", nil); err != nil {
		t.Errorf("got %v, want the task", err)
	}
	if n := dials.Load(); n != 2 {
		t.Errorf("dialled %d times, want 2", n)
	}
}
