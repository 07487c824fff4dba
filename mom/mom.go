// Package mom is the message-oriented middleware: it takes the calls of services that are
// down, keeps them in a store, replays them when the service is back,
// and keeps their answers.
package mom

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	connectv1 "connectrpc.com/connect"
	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/bridge"
	"holdline/internal/contract"
	"holdline/internal/logonce"
	"holdline/internal/outage"
	"holdline/internal/reflection"
	"holdline/internal/route"
	"holdline/internal/secret"
	"holdline/internal/upstream"
	"holdline/internal/wire"
)

// DefaultMaxHeld is the default of Config.MaxHeld.
const DefaultMaxHeld = 10_000

// HeaderBytes is how many bytes of headers the server of a MOM must accept, if its gateways accept the given number.
// A hand-off is a call with some more headers, and net/http may need twice as many bytes
// to write headers that a caller of HTTP/1.1 wrote without blanks.
func HeaderBytes(gateway int) int { return 2*gateway + 4<<10 }

// Config configures a MOM. Routes, Schemas and Logger are required; a zero
// field means its default.
type Config struct {
	Routes  route.Table
	Schemas *route.Schemas
	// AnswerTTL is how long answers are kept. Default contract.DefaultAnswerTTL, at
	// most contract.MaxAnswerTTL.
	AnswerTTL time.Duration
	// MaxHeld is the maximum number of callers held at once; a caller beyond it gets a handle at
	// once. Default DefaultMaxHeld.
	MaxHeld int
	// OnHold: the MOM takes calls and shows tasks, but it replays no task, and no task expires. A
	// restored store needs this until a person has looked at it.
	OnHold bool
	// Secret is the secret that gateways have to show. Without it a request gets the MOM's health, and nothing
	// else. Default: none, and everybody is taken for a gateway.
	Secret *secret.Secret
	// Engine speaks HTTP with services.
	Engine wire.Engine
	// Metrics registers the MOM's series. Default: nobody reads them.
	Metrics prometheus.Registerer
	Logger  *slog.Logger
}

// MOM is an http.Handler for hand-offs, TaskService, QueueService and
// /v1/tasks/, and replays tasks while it runs. It is safe for concurrent use;
// many may share a store.
type MOM struct {
	cfg      Config
	store    Store
	shards   *shards
	routes   *routes
	traffic  *traffics
	outages  *outage.Log
	once     *logonce.Logger
	waiters  *waiters
	lapses   *lapses
	holds    *holds
	learner  *reflection.Learner
	shelf    *shelf
	metrics  *metrics
	handler  http.Handler
	intakes  bridge.Handlers
	ready    atomic.Bool   // the store can be trusted
	recheck  chan struct{} // asks for another look at the store
	draining chan struct{} // closed by Drain
	drain    sync.Once

	replacing sync.Mutex       // of the routes
	leaving   upstream.Leaving // the pools of routes that are gone
}

// New dials nothing: store and services may come later.
func New(cfg Config, store Store) (*MOM, error) {
	if err := checkRoutes(cfg.Routes); err != nil {
		return nil, err
	}
	if cfg.Schemas == nil || cfg.Logger == nil {
		return nil, errors.New("mom: schemas and logger are required")
	}
	if cfg.AnswerTTL < 0 || cfg.AnswerTTL > contract.MaxAnswerTTL {
		return nil, errors.New("mom: answers are kept for 7 days at most")
	}
	cfg.AnswerTTL = cmp.Or(cfg.AnswerTTL, contract.DefaultAnswerTTL)
	cfg.MaxHeld = cmp.Or(cfg.MaxHeld, DefaultMaxHeld)
	cfg.Metrics = cmp.Or[prometheus.Registerer](cfg.Metrics, prometheus.NewRegistry())
	routes := newRoutes()
	shelf := newShelf(store, cfg.Schemas, routes.services, cfg.Logger)
	once := logonce.New(cfg.Logger)
	m := &MOM{
		cfg:      cfg,
		store:    store,
		routes:   routes,
		traffic:  &traffics{},
		once:     once,
		shelf:    shelf,
		lapses:   newLapses(store, once),
		waiters:  newWaiters(),
		metrics:  newMetrics(cfg.Metrics),
		recheck:  make(chan struct{}, 1),
		draining: make(chan struct{}),
	}
	m.outages = m.newOutages()
	m.learner = &reflection.Learner{Schemas: cfg.Schemas, Log: cfg.Logger, Elsewhere: func(ctx context.Context, service string) {
		_ = shelf.keep(ctx, service) // the store may know it
	}}
	cfg.Schemas.OnLearn(shelf.keepAgain)
	m.holds = &holds{
		store: store, shelf: shelf, lapses: m.lapses, traffic: m.traffic, limit: cfg.MaxHeld, draining: m.draining, once: once,
	}
	m.shards = newShards(store, routes, cfg.OnHold, cfg.Logger, once)
	m.shards.newPart, m.shards.newSending = m.newPart, m.newSending
	m.follow(cfg.Routes)
	m.registerGauges()
	own := connect.NewServer(tellErrors(m.once), tellTime)
	tasks := &taskService{store: store, shelf: shelf, shards: m.shards, waiters: m.waiters, draining: m.draining, once: m.once}
	momv1connect.RegisterTaskServiceHandler(own, tasks)
	momv1connect.RegisterQueueServiceHandler(own, &queueService{store: store, shards: m.shards, onHold: cfg.OnHold, draining: m.draining, log: cfg.Logger})
	momv1connect.RegisterHoldServiceHandler(own, &holdService{store: store, lapses: m.lapses, shards: m.shards, routes: routes, schemas: cfg.Schemas, shelf: shelf})
	mux := m.mountOwn(own)
	mux.HandleFunc("GET /v1/tasks/{id}", tasks.serve(tasks.showTask))
	mux.HandleFunc("GET /v1/tasks/{id}/answer", tasks.serve(tasks.showAnswer))

	m.mountIntake(mux)
	m.handler = withExchange(bridge.WithText(mux, false))
	return m, nil
}

// mountOwn is server.Mux with a codec that knows the schemas of the answers in tasks.
func (m *MOM) mountOwn(own *connect.Server) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle(grpchealth.NewHandler(m, connectv1.WithReadMaxBytes(maxRequest)))
	grpcreflect.Register(own, grpcreflect.WithDescriptorResolver(m.cfg.Schemas), grpcreflect.WithExtensionResolver(m.cfg.Schemas))
	connecthttp.Mount(mux, own, connecthttp.WithReadMaxBytes(maxRequest), connecthttp.WithCodecs(connectproto.NewBinaryCodec(), newJSONCodec(m.shelf)))
	return mux
}

// Drain answers all holds with handles and makes health say NOT_SERVING.
func (m *MOM) Drain() { m.drain.Do(func() { close(m.draining) }) }

// Check implements grpchealth.Checker: the MOM serves once its store can be
// trusted with tasks, and until it drains.
func (m *MOM) Check(_ context.Context, req *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	switch req.Service {
	case "", momv1connect.TaskServiceName, momv1connect.QueueServiceName:
	default:
		return nil, connectv1.NewError(connectv1.CodeNotFound, nil)
	}
	status := grpchealth.StatusNotServing
	select {
	case <-m.draining:
	default:
		if m.ready.Load() {
			status = grpchealth.StatusServing
		}
	}
	return &grpchealth.CheckResponse{Status: status}, nil
}

// Run replays and reaps until Drain is called. Then it lets attempts end, and gives up their leases. It watches the
// store until ctx ends. The caller ends ctx when the MOM serves nothing any more.
func (m *MOM) Run(ctx context.Context) error {
	defer func() {
		for _, sender := range m.routes.all() {
			sender.pool.Close()
		}
	}()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return m.watch(ctx) })
	group.Go(func() error { return m.check(ctx) })
	group.Go(func() error { return m.lapses.Run(ctx) })
	group.Go(func() error { return m.shelf.Run(ctx) })
	group.Go(func() error { return m.learner.Run(ctx) })
	group.Go(func() error { return m.leaving.Run(ctx) })
	group.Go(func() error { return m.outages.Run(ctx) })
	if m.cfg.OnHold {
		m.cfg.Logger.Warn("on hold: calls are stored, nothing is replayed and nothing expires, until this MOM is started without --hold")
	}
	working, stop := context.WithCancel(ctx)
	group.Go(func() error {
		defer stop()
		select {
		case <-m.draining:
		case <-ctx.Done():
		}
		return nil
	})
	group.Go(func() error { return m.shards.Run(working) })
	return group.Wait()
}

// watch wakes waiters and has shards reaped when tasks make transitions. After each connect to the store it does so for all waiters and
// shards, and has the store checked again.
func (m *MOM) watch(ctx context.Context) error {
	for ctx.Err() == nil {
		shards, grown := m.shards.all()
		watching, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- m.store.Watch(watching, shards, m.heard, m.resync) }()
		select {
		case err := <-ended:
			stop()
			if ctx.Err() == nil {
				return err
			}
		case <-grown: // transitions that are missed now are looked for after the next connect
			stop()
			<-ended
		}
	}
	return nil
}

// heard handles transitions that the store has published.
func (m *MOM) heard(shard Shard, transitions []Transition) {
	part := m.shards.part(shard)
	part.reaper.within(heardPause)
	for _, t := range transitions {
		if t.Answer != nil && !knownRecord(t.Answer.GetRecordVersion()) {
			t.Answer = nil // those who wait for it read it from the store, and report the error
		}
		m.waiters.wake(contract.TaskID{Service: shard.Service, Shard: shard.Index, ULID: t.ULID}, t.State, t.Answer)
		if t.State != momv1.TaskState_TASK_STATE_QUEUED {
			part.demand.doubt()
		}
		if t.State == momv1.TaskState_TASK_STATE_QUEUED && m.routes.of(shard.Service) == nil {
			m.shards.alarm(shard.Service).noRoute(time.Now())
		}
	}
}

// resync has all waiters, shards and the store looked at again, since transitions may have been missed.
func (m *MOM) resync() {
	m.anotherStore()
	nudge(m.recheck)
}

// anotherStore forgets what was read from the store so far: it may be another store now, or an empty one.
func (m *MOM) anotherStore() {
	m.lookAgain()
	m.shards.doubt()
	m.shelf.keepAgain()
}

// lookAgain has all parts read the store that otherwise rely on the transitions that it publishes.
func (m *MOM) lookAgain() {
	m.waiters.wakeAll()
	shards, _ := m.shards.all()
	for _, shard := range shards {
		part := m.shards.part(shard)
		part.reaper.within(0)
		part.demand.doubt()
	}
}

// storeTimeout bounds a transition: a hand-off has half a second in all.
const storeTimeout = 300 * time.Millisecond

// storePause is the time before a store that did not answer is asked again.
const storePause = 50 * time.Millisecond
