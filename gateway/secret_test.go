package gateway_test

import (
	"net/http"
	"sync"
	"testing"

	"holdline/gateway"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/secret"
)

// The gateway shows its secret with calls that are to be stored, and with those of the MOM's own
// services, in place of what a caller shows.
func TestSecretIsShown(t *testing.T) {
	t.Parallel()
	shown := secret.Random()
	var mu sync.Mutex
	heard := map[string]bool{} // by path: whether the secret was shown
	mom := newStandIn(t, nil)
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		heard[r.URL.Path] = shown.Take(r.Header)
		mu.Unlock()
		mom.ServeHTTP(w, r)
	}))
	url := "http://" + serve(t, configured(t, gateway.Config{Secret: shown}, "http://"+freeport.Addr(t), addr))
	connect1.call(t, client(t, 1), url, add, contract.HeaderSecret+": mine")
	const path = "/mom.v1.TaskService/GetTask"
	connect1.call(t, client(t, 1), url, method{path: path}, contract.HeaderSecret+": mine")
	mu.Lock()
	defer mu.Unlock()
	for _, path := range []string{add.path, path} {
		if shows, asked := heard[path]; !asked || !shows {
			t.Errorf("%s: asked %t, with the secret %t; want both", path, asked, shows)
		}
	}
}
