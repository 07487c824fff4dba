package mom

import (
	"net/http"
	"time"

	"holdline/internal/bridge"
	"holdline/internal/contract"
	"holdline/internal/wire"
)

// plainPatience is how long the message of a plain call may come after its headers.
const plainPatience = 10 * time.Millisecond

// ServePlain implements wire.PlainHandler, for hand-offs as most are: over HTTP/2, with a small message. They are taken as all others are, but connect has no part in it:
// see bridge.PlainCall. All else, such as a call of somebody who does not show the secret, is served by ServeHTTP.
func (m *MOM) ServePlain(req *wire.Request) (*wire.Response, http.Handler) {
	caller, held := req.Caller.(wire.Holding)
	method := m.takes(req.Path)
	if !held || method == nil {
		return nil, nil
	}
	var ok bool
	if req.Body, ok = caller.Body(plainPatience); !ok {
		return nil, nil
	}
	call := bridge.ReadPlain(req)
	if call == nil {
		return nil, nil
	}
	header := call.Info.RequestHeader()
	if header.Has(contract.HeaderOperator) || !m.cfg.Secret.Is(header.Values(contract.HeaderSecret)) {
		return nil, nil
	}
	header.Delete(contract.HeaderSecret)
	return m.intakes.Serve(&plainIncoming{caller.Context(call.Timeout), caller, int32(req.Major)}, method, call), nil
}

var _ wire.PlainHandler = (*MOM)(nil)
