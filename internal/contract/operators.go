package contract

import (
	"net/netip"

	"connectrpc.com/connect/v2"
)

// Local tells whether a request came from this machine. While callers have no
// identities, that is what makes an operator.
func Local(remoteAddr string) bool {
	addr, err := netip.ParseAddrPort(remoteAddr)
	return err == nil && addr.Addr().Unmap().IsLoopback()
}

// OperatorsOnly is the error for everybody else.
func OperatorsOnly() *connect.Error {
	return connect.NewError(connect.CodePermissionDenied, "for operators only: call from the machine that this server runs on")
}
