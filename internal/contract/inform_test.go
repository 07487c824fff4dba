package contract_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"sync"
	"testing"

	"holdline/internal/contract"
)

// Whoever leaves at an informational response leaves the headers in peace.
func TestInformCallersWhoLeave(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for i := range 20 {
			w.Header().Set("X-"+strconv.Itoa(i), "1")
			contract.Inform(w, http.StatusEarlyHints)
		}
		if got, ok := w.Header()["Content-Length"]; ok {
			t.Errorf("Content-Length is left behind: %q", got)
		}
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	transport := &http.Transport{Protocols: server.Config.Protocols}
	defer transport.CloseIdleConnections()
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 100 {
				ctx, leave := context.WithCancel(t.Context())
				ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error {
					leave()
					return nil
				}})
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if res, err := transport.RoundTrip(req); err == nil {
					_ = res.Body.Close()
				}
				leave()
			}
		})
	}
	callers.Wait()
}
