package mom

import (
	"net/http"
	"time"

	"golang.org/x/net/http2/hpack"

	"holdline/internal/bridge"
	"holdline/internal/contract"
	"holdline/internal/wire"
)

// plainPatience is how much later than its headers the message of a plain call may come.
const plainPatience = 10 * time.Millisecond

// ServePlain implements wire.PlainHandler, for the most common hand-offs: over HTTP/2, with a small message. They are stored in the same way as all others, but without connect:
// see bridge.PlainCall. ServeHTTP serves everything else, such as a call without the secret.
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
	if call == nil || !m.trusts(req.Header) {
		return nil, nil
	}
	var came struct { // in one allocation
		call incoming
		from plain
	}
	x := &came.call
	came.from = plain{call, caller}
	*x = incoming{source: &came.from, protocol: call.Protocol, json: call.JSON, major: int32(req.Major), header: req.Header}
	ctx := caller.Context(call.Timeout)
	err := tell(ctx, m.once, m.take(ctx, method, x), method.Procedure, x.protocol, &x.said, &x.trailer)
	return call.Respond(x.said, x.trailer, x.answer, err), nil
}

var _ wire.PlainHandler = (*MOM)(nil)

// trusts tells whether a call shows the secret.
func (m *MOM) trusts(header []hpack.HeaderField) bool {
	var shown []string
	for _, f := range header {
		if f.Name == secretName {
			shown = append(shown, f.Value)
		}
	}
	return m.cfg.Secret.Is(shown)
}

var secretName = wire.Lower(contract.HeaderSecret)

// plain is where a plain call comes from.
type plain struct {
	call   *bridge.PlainCall
	caller wire.Holding
}

func (p *plain) receive(msg bridge.Incoming) error { return p.call.Receive(msg) }

func (p *plain) inform(said headers) {
	fields := make([]hpack.HeaderField, len(said))
	for i, h := range said {
		fields[i] = hpack.HeaderField{Name: wire.Lower(h.Name), Value: h.Value}
	}
	p.caller.Inform(http.StatusEarlyHints, fields)
}
