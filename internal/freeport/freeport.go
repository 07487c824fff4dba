// Package freeport finds ports for tests whose servers start later, or stop and start again.
package freeport

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Ports lie below those that systems give to connections, and to servers that name no port: nobody
// takes one before its server starts.
const (
	lowest = 10000
	blocks = 200
	block  = 100 // ports; the first one stands for the block
)

var (
	mu        sync.Mutex
	claimed   []net.Listener // never closed: the system does that when the process ends
	next, end int            // what is left of the newest block
)

// Port returns a port that is free on every address of this machine, between 10000 and 30000. Nobody
// else gets it from here as long as this process lives.
func Port(tb testing.TB) string {
	tb.Helper()
	return strconv.Itoa(Ports(tb, 1))
}

// Ports returns the first of n such ports, one after the other. n is less than 100.
func Ports(tb testing.TB, n int) (first int) {
	tb.Helper()
	mu.Lock()
	defer mu.Unlock()
	for range blocks * block {
		if next+n > end {
			claim(tb)
		}
		first, next = next, next+n
		if free(first, n) {
			return first
		}
	}
	tb.Fatal("no port is free between 10000 and 30000")
	return 0
}

func free(first, n int) bool {
	for port := first; port < first+n; port++ {
		ln, err := listen("0.0.0.0", port)
		if err != nil {
			return false
		}
		_ = ln.Close()
	}
	return true
}

// claim takes a block of ports for this process. Tests of several packages run at the same time: who
// listens on a block's first port has the others.
func claim(tb testing.TB) {
	tb.Helper()
	for range 10 * blocks {
		first := lowest + block*rand.IntN(blocks)
		if ln, err := listen("127.0.0.1", first); err == nil {
			claimed = append(claimed, ln)
			next, end = first+1, first+block
			return
		}
	}
	tb.Fatal("no block of ports is free between 10000 and 30000")
}

func listen(host string, port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
}

// Addr returns such a port's address on 127.0.0.1. Until a test listens there, dials are refused.
func Addr(tb testing.TB) string {
	tb.Helper()
	return net.JoinHostPort("127.0.0.1", Port(tb))
}
