//go:build !unix

package wire

import "net"

// NonBlocking returns the connection.
func NonBlocking(c net.Conn) net.Conn { return c }
