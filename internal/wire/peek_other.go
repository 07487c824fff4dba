//go:build !unix

package wire

import "net"

// Peeker looks at a connection without reading. Here it sees nothing.
type Peeker struct{}

// NewPeeker returns one for a connection.
func NewPeeker(net.Conn) *Peeker { return nil }

// Peek returns Nothing.
func (*Peeker) Peek() Come { return Nothing }

// Wait does not wait.
func (*Peeker) Wait() error { return nil }
