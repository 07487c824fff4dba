package gateway

import (
	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// judge refuses a call whose time is over, and checks the headers of the contract, in the same way whether
// the service is up or not. Holdline-* headers are ours, on every call. The other headers (key, Prefer and deadline) are the service's
// own where a call cannot become a task, and then they pass: on streams, with Holdline-Mode: direct, and on methods without a schema, unless
// the schema may still come.
func (p *proxy) judge(c *call) (err *connect.Error) {
	header := c.req.Header
	if c.late(0) {
		return connect.NewError(connect.CodeDeadlineExceeded, "the time that the caller gave was over before the call could be sent; it was not executed")
	}
	if c.asks, err = contract.AsksOf(header); err != nil {
		return err
	}
	if !p.stores(c) {
		if c.untold && p.mom != nil && !c.asks.Direct && (header.Get(contract.HeaderKey) != "" || contract.Prefer(header).Async) {
			return untold(c) // it would be a task if its schema were known
		}
		return nil
	}
	if c.key, err = contract.Key(header); err != nil {
		return err
	}
	c.prefer = contract.Prefer(header)
	if err = contract.CheckTimeout(header, upstream.IsGRPC(header)); err != nil || !c.wantsTask() {
		return err
	}
	if c.req.Stream != nil {
		return contract.Errorf(momv1.Reason_REASON_REQUEST_TOO_LARGE,
			"a request with %s or %s: respond-async has at most %d bytes", contract.HeaderKey, contract.HeaderPrefer, maxReplay)
	}
	if cause, lost := c.lost(); lost {
		return unsendable(cause, c)
	}
	return nil
}
