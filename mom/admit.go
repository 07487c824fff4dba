package mom

import (
	"net/http"

	"connectrpc.com/connect/v2"

	"holdline/internal/contract"
	"holdline/internal/server"
)

// ServeHTTP implements http.Handler, for gateways.
func (m *MOM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !m.cfg.Secret.Take(r.Header) && !server.IsHealth(r) {
		m.refuseStranger(w, r)
		return
	}
	m.handler.ServeHTTP(w, r)
}

// refuseStranger refuses somebody who does not show the secret. A gateway hears that it is
// the gateway's fault, and not its caller's.
func (m *MOM) refuseStranger(w http.ResponseWriter, r *http.Request) {
	m.once.Warn("stranger", "refused somebody who does not show the secret: if it is a gateway of yours, give it the same --mom-secret-file",
		"path", r.URL.Path, "peer", r.RemoteAddr)
	w.Header().Set(contract.HeaderRefused, contract.RefusedSecret)
	contract.WriteError(w, r, connect.NewError(connect.CodeUnauthenticated,
		"this MOM takes calls from its gateways alone: give a gateway the MOM's --mom-secret-file, and callers the address of a gateway"))
}
