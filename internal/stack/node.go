package stack

import (
	"cmp"
	"context"
	"net/http"

	"holdline/gateway"
	"holdline/internal/route"
	"holdline/internal/server"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// runner is a part that lives as long as its context.
type runner interface{ Run(context.Context) error }

// part is what a server serves: a gateway or a MOM. It runs until the server has ended, since
// calls under way still need it.
type part interface {
	runner
	http.Handler
	Operators() http.Handler
	Drain()
	Replace(table route.Table, schemas *route.Schemas) error
}

// Node is a gateway or a MOM whose listeners are open.
type Node struct {
	*server.Server
	part  part
	store *redisstore.Store // of a MOM
}

// NewGateway opens the listeners of a gateway and dials nothing. It sets Handler, Operators, End and Engine of at.
func NewGateway(cfg gateway.Config, at server.Config) (*Node, error) {
	g, err := gateway.New(cfg)
	if err != nil {
		return nil, &server.ConfigError{Err: err}
	}
	at.Engine, at.End = cfg.Engine, g.End
	return listen(at, &Node{part: g})
}

// NewMOM opens the listeners of a MOM and dials nothing. It sets Handler, Operators and Engine of at. The limit of
// headers in at is that of the gateways; the MOM takes as many more as a hand-off needs.
func NewMOM(cfg mom.Config, keep redisstore.Config, at server.Config) (*Node, error) {
	store, err := redisstore.Open(keep)
	if err != nil {
		return nil, &server.ConfigError{Err: err}
	}
	m, err := mom.New(cfg, store)
	if err != nil {
		store.Close()
		return nil, &server.ConfigError{Err: err}
	}
	at.Engine = cfg.Engine
	at.Limits.HeaderBytes = mom.HeaderBytes(cmp.Or(at.Limits.HeaderBytes, server.DefaultHeaderBytes))
	return listen(at, &Node{part: m, store: store})
}

// listen opens the listeners of a node. Its server drains the part, and then calls the Drain of at, if
// there is one.
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

// Run serves until ctx ends, and drains. Then it ends the gateway or the MOM.
func (n *Node) Run(ctx context.Context) error {
	if n.store != nil {
		defer n.store.Close()
	}
	return serial(ctx, []runner{n.Server}, []runner{n.part})
}

// Replace puts other routes and schemas in the place of those that there are. If it returns an error, nothing has
// changed.
func (n *Node) Replace(table route.Table, schemas *route.Schemas) error {
	return n.part.Replace(table, schemas)
}

// Drain gives all held callers their handles, before the server drains.
func (n *Node) Drain() { n.part.Drain() }

// Close releases what the node has opened. It is for a node that is never run.
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
