package gateway

import (
	"io"
	"net/http"
	"strings"

	"connectrpc.com/connect/v2"

	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// judge refuses a call whose time is over, and reads the headers of the contract, the same whether
// the service is there or not. Holdline-* are ours, on every call. The others have a meaning of
// their own where a call cannot become a task, and pass: on streams, on methods without a schema,
// and with Holdline-Mode: direct.
func (p *proxy) judge(c *call) (err *connect.Error) {
	header := c.req.Header
	if c.late(0) {
		return connect.NewError(connect.CodeDeadlineExceeded, "the time that the caller gave was over before the call could be sent; it was not executed")
	}
	if c.asks, err = contract.AsksOf(header); err != nil || !p.stores(c) {
		return err
	}
	if _, err = contract.Key(header); err != nil {
		return err
	}
	return contract.CheckTimeout(header, isGRPC(header))
}

// refuseCall refuses a call for what its caller asks. One that is still sending a message would not hear of it.
func (p *proxy) refuseCall(w http.ResponseWriter, c *call, err *connect.Error) {
	c.outcome = callRefused
	if c.unary() && c.req.Stream != nil {
		_, _ = io.CopyN(io.Discard, c.req.In.Body, maxDiscard)
	}
	p.refuse(w, c, err, "")
}

func isGRPC(header http.Header) bool {
	return strings.HasPrefix(upstream.MediaType(header), "application/grpc")
}
