package e2e

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"holdline/internal/freeport"
	"holdline/internal/redistest"
	"holdline/internal/route"
	"holdline/internal/server"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// forgetful marks tasks as sent, but its first reply is lost.
type forgetful struct {
	*redisstore.Store
	lost atomic.Bool
}

// MarkSent implements mom.Store.
func (f *forgetful) MarkSent(ctx context.Context, lease mom.Lease) error {
	err := f.Store.MarkSent(ctx, lease)
	if err == nil && f.lost.CompareAndSwap(false, true) {
		return fmt.Errorf("%w: the reply is lost", mom.ErrUnavailable)
	}
	return err
}

// A call of an undeclared method that was marked but, the store's reply being
// lost, never sent, is sent later: it surely did not run.
func TestMarkLost(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	store, err := redisstore.Open(redisstore.Config{URL: redistest.Start(t), Prefix: t.Name() + ":", Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	front := ledgerMOM(t, &forgetful{Store: store}, addr)
	var l ledger
	run(t, l.serve(t, addr))
	got, _ := wire{}.ask(t, front, "Post", amounts(t, 1), "Prefer: wait=60")
	if got.code != 0 || amountOf(got.message) != 2 || l.ran(1) != 1 {
		t.Errorf("got %v after %d runs, want amount 2 after one", got, l.ran(1))
	}
}

// ledgerMOM runs a MOM in front of a ledger, and returns its address once it is ready.
func ledgerMOM(t *testing.T, store mom.Store, addr string) string {
	t.Helper()
	routes, err := route.ParseTable([]string{ledgerService + "=http://" + addr})
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := route.LoadSchemas(ledgerImage(t))
	if err != nil {
		t.Fatal(err)
	}
	m, err := mom.New(mom.Config{Routes: routes, Schemas: schemas, Logger: testLog(t)}, store)
	if err != nil {
		t.Fatal(err)
	}
	front, err := server.Listen(server.Config{Addr: "127.0.0.1:0", Handler: m, Logger: testLog(t), Drain: m.Drain})
	if err != nil {
		t.Fatal(err)
	}
	run(t, m)
	run(t, front)
	awaitReady(t, front.Addr())
	return front.Addr()
}
