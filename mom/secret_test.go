package mom

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"holdline/internal/contract"
	"holdline/internal/secret"
)

// A MOM with a secret takes nothing from those who do not show it, and says whose fault that is. What operators may
// ask for, it tells nobody else; its admin listener is for them.
func TestStrangersAndOperators(t *testing.T) {
	t.Parallel()
	shared := secret.Random()
	m := newFake(t, newFakeStore(), func(cfg *Config) { cfg.Secret = shared })
	const health, queues, task = "/grpc.health.v1.Health/Check", "/mom.v1.QueueService/ListQueues", "/v1/tasks/17"
	for name, c := range map[string]struct {
		handler  http.Handler
		path     string
		shows    bool
		operator string // whom the gateway speaks for
		want     int
	}{
		"a stranger":                              {m, task, false, "", http.StatusUnauthorized},
		"a stranger who says it is an operator":   {m, queues, false, "192.0.2.7", http.StatusUnauthorized},
		"a stranger who asks for health":          {m, health, false, "", http.StatusOK},
		"a gateway":                               {m, task, true, "", http.StatusNotFound},
		"a gateway's caller":                      {m, queues, true, "", http.StatusForbidden},
		"a gateway for an operator":               {m, queues, true, "192.0.2.7", http.StatusOK},
		"an operator on the MOM's admin listener": {m.Operators(), queues, false, "", http.StatusOK},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, c.path, strings.NewReader("{}"))
		if c.path == task {
			r = httptest.NewRequestWithContext(t.Context(), http.MethodGet, c.path, nil)
		}
		r.Header.Set("Content-Type", "application/json")
		if c.shows {
			shared.Show(r.Header)
		}
		if c.operator != "" {
			r.Header.Set(contract.HeaderOperator, c.operator)
		}
		w := httptest.NewRecorder()
		c.handler.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: got %d, %s, want %d", name, w.Code, w.Body, c.want)
		}
		if got := w.Header().Get(contract.HeaderRefused); (got == contract.RefusedSecret) != (c.want == http.StatusUnauthorized) {
			t.Errorf("%s: %s: got %q", name, contract.HeaderRefused, got)
		}
	}
}
