package stack

import (
	"cmp"
	"context"
	"net/http"

	"holdline/gateway"
	"holdline/internal/server"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// runner is a part that lives as long as its context.
type runner interface{ Run(context.Context) error }

// part is what a server serves: a gateway or a MOM. It outlives the server, which
// still needs it for what is under way.
type part interface {
	runner
	http.Handler
	Operators() http.Handler
	Drain()
}

// Node is a gateway or a MOM whose listeners are open.
type Node struct {
	*server.Server
	part  part
	store *redisstore.Store // of a MOM
}

// NewGateway opens a gateway's listeners and dials nothing. Handler and Operators of at are the gateway's.
func NewGateway(cfg gateway.Config, at server.Config) (*Node, error) {
	g, err := gateway.New(cfg)
	if err != nil {
		return nil, err
	}
	return listen(at, &Node{part: g})
}

// NewMOM opens a MOM's listeners and dials nothing. Handler and Operators of at are the MOM's, and its
// limit of headers is what the gateways take of their callers.
func NewMOM(cfg mom.Config, keep redisstore.Config, at server.Config) (*Node, error) {
	store, err := redisstore.Open(keep)
	if err != nil {
		return nil, err
	}
	m, err := mom.New(cfg, store)
	if err != nil {
		store.Close()
		return nil, err
	}
	at.Limits.HeaderBytes = mom.HeaderBytes(cmp.Or(at.Limits.HeaderBytes, server.DefaultHeaderBytes))
	return listen(at, &Node{part: m, store: store})
}

// listen opens the listeners of a node. What drains with it already still does.
func listen(at server.Config, n *Node) (_ *Node, err error) {
	also := at.Drain
	at.Handler, at.Operators = n.part, n.part.Operators()
	at.Drain = func() {
		n.part.Drain()
		if also != nil {
			also()
		}
	}
	if n.Server, err = server.Listen(at); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// Run serves until ctx ends, and drains; then what is served comes to its end.
func (n *Node) Run(ctx context.Context) error {
	if n.store != nil {
		defer n.store.Close()
	}
	return serial(ctx, []runner{n.Server}, []runner{n.part})
}

// Drain ends what the node's callers wait for with handles, before the server drains.
func (n *Node) Drain() { n.part.Drain() }

// Close releases what a node that is never run has opened.
func (n *Node) Close() {
	if n == nil {
		return
	}
	if n.Server != nil {
		n.Server.Close()
	}
	if n.store != nil {
		n.store.Close()
	}
}
