package mom

import (
	"cmp"
	"context"
	"net"
	"net/http"

	"connectrpc.com/connect/v2"

	"holdline/internal/contract"
	"holdline/internal/server"
)

// ServeHTTP implements http.Handler, for gateways. A gateway marks the requests that came to its
// admin listener. Without a secret this mark counts only if the gateway is on this machine, and nothing shows
// that somebody else sends requests through it.
func (m *MOM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	operator := r.Header.Get(contract.HeaderOperator)
	delete(r.Header, contract.HeaderOperator)
	switch {
	case !m.cfg.Secret.Take(r.Header) && !server.IsHealth(r):
		m.refuseStranger(w, r)
	case operator != "" && (m.cfg.Secret != nil || contract.Local(r) && contract.Foreign(r) == ""):
		m.serveOperator(w, r, operator)
	case contract.IsOperators(r.URL.Path):
		contract.WriteError(w, r, contract.OperatorsOnly(r.URL.Path))
	default:
		m.handler.ServeHTTP(w, r)
	}
}

// Operators is the handler of the admin listener. It serves tasks and queues, and takes no hand-offs.
func (m *MOM) Operators() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr) // a unix socket has none
		m.serveOperator(w, r, cmp.Or(host, "unix"))
	})
}

// operatorKey carries an operator's address in the context of the operator's request.
type operatorKey struct{}

func (m *MOM) serveOperator(w http.ResponseWriter, r *http.Request, address string) {
	m.handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), operatorKey{}, address)))
}

// refuseStranger refuses a request without the secret. The response shows a gateway that the refusal is due to
// the gateway, and not to its caller.
func (m *MOM) refuseStranger(w http.ResponseWriter, r *http.Request) {
	m.once.Warn("stranger", "refused somebody who does not show the secret: if it is a gateway of yours, give it the same --mom-secret-file",
		"path", r.URL.Path, "peer", r.RemoteAddr)
	w.Header().Set(contract.HeaderRefused, contract.RefusedSecret)
	contract.WriteError(w, r, connect.NewError(connect.CodeUnauthenticated,
		"this MOM takes calls from its gateways alone: give a gateway the MOM's --mom-secret-file, and callers the address of a gateway"))
}
