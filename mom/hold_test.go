package mom_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/grpchealth"
	"go.uber.org/goleak"

	arithmeticv1 "holdline/gen/arithmetic/v1"
	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/redistest"
	"holdline/internal/route"
	"holdline/internal/server"
	"holdline/internal/server/servertest"
	"holdline/mom"
	"holdline/mom/redisstore"
	"holdline/services/sum"
)

func TestMain(m *testing.M) {
	redistest.Main(m, func(code int) int {
		if err := goleak.Find(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	})
}

// away is a store on Redis that loses replies: as many of each kind as it is
// told to. What was asked for happens nevertheless.
type away struct {
	*redisstore.Store
	adds, gets atomic.Int32
	// ends is how many tasks end, record and key, after a call was attached to them and
	// before they are read; with records for ever they only seem to.
	ends     atomic.Int32
	attached atomic.Bool
	records  time.Duration // are kept after their answers; 0 is the store's default
}

var errReplyLost = fmt.Errorf("%w: the reply was lost", mom.ErrUnavailable)

func (s *away) Add(ctx context.Context, task mom.NewTask) (mom.Added, error) {
	added, err := s.Store.Add(ctx, task)
	s.attached.Store(added.Attached)
	if s.adds.Add(-1) >= 0 && err == nil {
		return mom.Added{}, errReplyLost
	}
	return added, err
}

func (s *away) Get(ctx context.Context, id contract.TaskID) (*momv1.Task, *momv1.Answer, error) {
	if s.gets.Add(-1) >= 0 {
		return nil, nil, errReplyLost
	}
	if s.attached.Swap(false) && s.ends.Add(-1) >= 0 {
		for err := error(nil); s.records > 0 && !errors.Is(err, mom.ErrNotFound); {
			_, _, err = s.Store.Get(context.WithoutCancel(ctx), id)
		}
		return nil, nil, mom.ErrNotFound
	}
	return s.Store.Get(ctx, id)
}

// start runs a MOM on the store and a service behind it, and returns a client that
// calls as a gateway does.
func (s *away) start(t *testing.T) arithmeticv1connect.SumServiceClient {
	t.Helper()
	store, err := redisstore.Open(redisstore.Config{URL: redistest.Start(t), Prefix: t.Name() + ":", TombstoneTTL: s.records})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	s.Store = store

	rpc := connect.NewServer()
	sum.Register(rpc)
	service, _ := servertest.Run(t, server.Config{Handler: server.Mux(rpc, grpchealth.NewStaticChecker(arithmeticv1connect.SumServiceName))})
	routes, err := route.ParseTable([]string{arithmeticv1connect.SumServiceName + "=http://" + service})
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := route.LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	m, err := mom.New(mom.Config{Routes: routes, Schemas: schemas, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}, s)
	if err != nil {
		t.Fatal(err)
	}
	servertest.Keep(t, m)
	addr, _ := servertest.Run(t, server.Config{Handler: m})
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	client := arithmeticv1connect.NewSumServiceClient(connect.NewClient(connecthttp.NewTransport(&http.Client{Transport: transport}, "http://"+addr)))
	for {
		res, err := m.Check(t.Context(), &grpchealth.CheckRequest{})
		if err == nil && res.Status == grpchealth.StatusServing {
			return client
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("the MOM did not become ready")
		}
	}
}

// ask calls with some headers, again as long as nobody knows whether the call is stored, as a
// gateway does: a busy machine may not store one in time.
func ask(ctx context.Context, client arithmeticv1connect.SumServiceClient, headers map[string]string) (*arithmeticv1.SumResponse, *connect.CallInfo, error) {
	for {
		ctx, info := connect.NewClientContext(ctx)
		for key, value := range headers {
			info.RequestHeader().Set(key, value)
		}
		res, err := client.Sum(ctx, &arithmeticv1.SumRequest{A: 1, B: 2})
		if info.ResponseHeader().Get(contract.HeaderUnsure) == "" {
			return res, info, err
		}
	}
}

// offer calls with a task's id, and checks that the call is answered within its
// deadline, with a hold that is longer.
func offer(t *testing.T, client arithmeticv1connect.SumServiceClient, id contract.TaskID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	res, info, err := ask(ctx, client, map[string]string{contract.HeaderTask: id.String(), contract.HeaderPrefer: "wait=300"})
	if err != nil || res.GetResult() != 3 {
		t.Errorf("sum = %v, %v, want 3", res, err)
	}
	if got := info.ResponseHeader().Get(contract.HeaderTask); got != id.String() {
		t.Errorf("%s = %q, want the id that was offered", contract.HeaderTask, got)
	}
}

func newID() contract.TaskID {
	return contract.NewTaskID(arithmeticv1connect.SumServiceName, 1, contract.Anonymous, arithmeticv1connect.SumServiceSumProcedure, "")
}

// A MOM that died may have been about to answer: whoever is offered the call
// again need not wait for an end that was long ago.
func TestOfferedAfterItsEnd(t *testing.T) {
	t.Parallel()
	client, id := new(away).start(t), newID()
	offer(t, client, id)
	offer(t, client, id)
}

// Whether a call is stored can be asked: its id is known.
func TestStoreLosesReplyToAdd(t *testing.T) {
	t.Parallel()
	s := new(away)
	client := s.start(t)
	s.adds.Store(1)
	offer(t, client, newID())
}

// A call that is stored is not unavailable, whatever becomes of the store: its
// caller would send it again.
func TestStoreAwayWhileHeld(t *testing.T) {
	t.Parallel()
	s := new(away)
	client := s.start(t)
	s.gets.Store(3)
	offer(t, client, newID())
}
