//go:build !unix

package h1

import "net"

func silent(net.Conn) bool { return true }
