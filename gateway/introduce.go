package gateway

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"

	"holdline/internal/contract"
	"holdline/internal/logonce"
	"holdline/internal/upstream"
)

// operatorKey marks the context of a request that came to the admin listener.
type operatorKey struct{}

// Operators is the handler of the admin listener. It serves the MOMs' procedures for operators, and the gateway's own
// services.
func (g *Gateway) Operators() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.front.dispatch(w, r.WithContext(context.WithValue(r.Context(), operatorKey{}, true)))
	})
}

// operatorsOnly refuses somebody who is no operator.
func (p *proxy) operatorsOnly(w http.ResponseWriter, r *http.Request) {
	p.once.Log(slog.LevelInfo, "operators", "a caller was refused what is for operators, who have the admin listener",
		"procedure", r.URL.Path, "peer", r.RemoteAddr)
	contract.WriteError(w, r, contract.OperatorsOnly(r.URL.Path))
}

// introduce adds the headers by which a MOM knows this gateway, and who calls the MOM's own services.
func (p *proxy) introduce(r *http.Request) {
	p.secret.Show(r.Header)
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if r.Context().Value(operatorKey{}) != nil {
		r.Header.Set(contract.HeaderOperator, cmp.Or(host, "unix"))
		// The admin listener has checked these headers against its own address; the MOM cannot.
		r.Host = "" // becomes the MOM's own
		r.Header.Del("Origin")
		r.Header.Del("Sec-Fetch-Site")
		return
	}
	const header = "X-Forwarded-For"
	if err != nil {
		return
	}
	if before := r.Header.Get(header); before != "" {
		host = before + ", " + host
	}
	r.Header.Set(header, host)
}

// secretRefused is the cause when a MOM refuses a request because we do not show its secret.
const secretRefused = "mom-secret"

// refusesSecret tells whether a response of a MOM is such a refusal. res may be nil.
func refusesSecret(res *upstream.Response) bool {
	return res != nil && res.Header.Get(contract.HeaderRefused) == contract.RefusedSecret
}

func warnSecret(once *logonce.Logger, mom *upstream.Endpoint) {
	once.Warn("secret "+mom.String(), "a MOM takes nothing from this gateway, which does not show its secret: give both the same --mom-secret-file", "mom", mom)
}
