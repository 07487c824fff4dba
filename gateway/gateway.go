// Package gateway is a thin, transparent reverse proxy for Connect and gRPC
// services. It knows routes and schemas, and decides what to do when a service
// does not answer. It touches no store, and decodes a message only if the service does
// not speak the caller's protocol or codec.
package gateway

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/grpcreflect/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"holdline/gateway/docs"
	"holdline/gen/gateway/v1/gatewayv1connect"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/bridge"
	"holdline/internal/logonce"
	"holdline/internal/openapi"
	"holdline/internal/reflection"
	"holdline/internal/route"
	"holdline/internal/secret"
	"holdline/internal/server"
	"holdline/internal/upstream"
	"holdline/internal/wire"
)

// Defaults of a Config. Fewer callers are held than calls may be under way: an outage of
// one service leaves room for the calls of the others.
const (
	DefaultMaxCalls = 10_000
	DefaultMaxHeld  = 5_000
)

// Config configures a gateway. Routes, Schemas and Logger are required.
type Config struct {
	Routes  route.Table
	Schemas *route.Schemas
	// MOM has the URLs of the MOMs, one for each instance. They get the calls that a
	// service cannot take. Default: none, and nothing is stored.
	MOM []*url.URL
	// Secret is shown to the MOMs. Default: none.
	Secret *secret.Secret
	// Engine speaks HTTP with services and MOMs.
	Engine wire.Engine
	// CORSOrigins may call from a browser, such as https://app.example; * is
	// any. Default: none.
	CORSOrigins []string
	// MaxCalls is the maximum number of calls under way at once; a call beyond it
	// is unavailable. Default DefaultMaxCalls.
	MaxCalls int
	// MaxHeld is the maximum number of callers who wait for the answer of a stored call; a
	// caller beyond it gets a handle at once. Default DefaultMaxHeld.
	MaxHeld int
	// Metrics registers the gateway's series. Default: nobody reads them.
	Metrics prometheus.Registerer
	Logger  *slog.Logger
}

// Gateway is an http.Handler, safe for concurrent use. Run does its work in the background.
type Gateway struct {
	handler http.Handler
	front   *proxy
	targets *targets
	health  *health
	metrics *metrics
	engine  wire.Engine
	log     *slog.Logger
	drain   context.CancelFunc
	end     context.CancelFunc
	words   *words   // nil without MOMs
	meeting *meeting // nil without MOMs
	learner *reflection.Learner

	replacing sync.Mutex       // of the targets
	leaving   upstream.Leaving // the pools of routes that are gone
}

// ofMOM are the services that a MOM serves itself.
var ofMOM = []string{momv1connect.QueueServiceName, momv1connect.TaskServiceName}

func (cfg *Config) check() error {
	if cfg.Schemas == nil || cfg.Logger == nil {
		return errors.New("gateway: schemas and logger are required")
	}
	if err := checkOrigins(cfg.CORSOrigins); err != nil {
		return err
	}
	return checkRoutes(cfg.Routes, len(cfg.MOM) > 0)
}

// New dials nothing and starts nothing: services and MOMs may come later.
func New(cfg Config) (*Gateway, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	draining, drain := context.WithCancel(context.Background())
	ending, end := context.WithCancel(context.Background())
	g := &Gateway{targets: newTargets(), engine: cfg.Engine, drain: drain, end: end, log: cfg.Logger}
	g.health = &health{targets: g.targets}
	front := &proxy{
		targets: g.targets, schemas: cfg.Schemas, secret: cfg.Secret, draining: draining, ending: ending,
		maxHeld: int64(cmp.Or(cfg.MaxHeld, DefaultMaxHeld)), log: cfg.Logger, once: logonce.New(cfg.Logger),
		outages: newOutages(g.targets, cfg.Logger), varies: len(cfg.CORSOrigins) > 0,
	}
	front.limit = &limit{most: int64(cmp.Or(cfg.MaxCalls, DefaultMaxCalls)), log: front.once}
	g.front = front
	g.metrics = newMetrics(cfg.Metrics, g.targets, &front.held)
	g.learner = &reflection.Learner{Schemas: cfg.Schemas, Log: cfg.Logger}
	front.learner, front.bridge = g.learner, bridge.New(cfg.Schemas, bridge.Hooks{Doubt: g.learner.Doubt, Unwritten: front.unwritten})
	if len(cfg.MOM) > 0 {
		front.mom = upstream.NewPool(upstream.Config{Service: momv1connect.TaskServiceName, Endpoints: cfg.MOM, Health: upstream.HealthName, Engine: cfg.Engine, Log: cfg.Logger})
		shared, own := newBreaker(front.mom, func(string) {}, front.once), map[string]*target{}
		for _, name := range ofMOM {
			own[name] = newTarget(&route.Route{Service: name, Endpoints: cfg.MOM}, shared, false, g.metrics)
		}
		g.targets.set(own)
		g.words = newWords(front.mom, cfg.Secret, cfg.Logger)
		front.words = g.words
	} else {
		cfg.Logger.Warn("no MOM: nothing is stored")
	}
	g.follow(cfg.Routes)
	var err error
	if front.own, err = g.own(cfg, front); err != nil {
		return nil, err
	}
	if front.mom != nil {
		g.meeting = newMeeting(cfg, g.targets, front.mom, g.metrics, front.once)
		g.learner.Elsewhere = g.meeting.ask
	}
	g.handler = withCORS(front.limit.serve(front), cfg.CORSOrigins)
	return g, nil
}

// readTask is a GET of a task, or of its answer. It may be repeated, as a call of a repeatable method may.
var readTask = &route.Method{Procedure: "/v1/tasks/", Unary: true, Repeatable: true}

// own serves the requests that are no calls of routed services: the directory, health, reflection
// and the docs. Reads of a task by its address go on to the MOM.
func (g *Gateway) own(cfg Config, front *proxy) (http.Handler, error) {
	rpc := connect.NewServer()
	gatewayv1connect.RegisterDirectoryServiceHandler(rpc, &directory{services: g.routed, targets: g.targets, schemas: cfg.Schemas})
	mux := server.Mux(rpc, g.health,
		grpcreflect.WithNamer(grpcreflect.NamerFunc(func() []string {
			return slices.Sorted(slices.Values(append(g.routed(), gatewayv1connect.DirectoryServiceName)))
		})),
		grpcreflect.WithDescriptorResolver(cfg.Schemas),
		grpcreflect.WithExtensionResolver(cfg.Schemas),
	)
	mux.HandleFunc("/", front.notFound)
	if tasks := g.targets.of(momv1connect.TaskServiceName); front.mom != nil {
		for _, place := range []string{"/v1/tasks/{id}", "/v1/tasks/{id}/answer"} {
			mux.HandleFunc("GET "+place, func(w http.ResponseWriter, r *http.Request) {
				front.serve(w, r, tasks, readTask, begun{came: time.Now()})
			})
			mux.HandleFunc(place, taskNotRead)
		}
		mux.HandleFunc("/v1/tasks", noTaskNamed)
		mux.HandleFunc("/v1/tasks/", noTaskNamed)
	}
	return mux, docs.Mount(mux, docs.Config{
		Describe: g.describe, Version: func() int64 { return cfg.Schemas.Version() + g.targets.version.Load() }, Logger: cfg.Logger,
	})
}

// routed are the services that callers may call, sorted.
func (g *Gateway) routed() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(g.targets.all())), func(name string) bool {
		return g.front.mom != nil && name == momv1connect.QueueServiceName // callers get nothing of it
	})
}

// describe returns the services and schemas that the OpenAPI document describes.
func (g *Gateway) describe() openapi.Config {
	stores := g.front.mom != nil
	cfg := openapi.Config{Schemas: g.front.schemas, Tasks: stores}
	for _, name := range g.routed() {
		t := g.targets.of(name)
		cfg.Services = append(cfg.Services, openapi.Service{Name: name, Proxied: true, Stored: stores && t != nil && t.stores})
	}
	cfg.Services = append(cfg.Services, openapi.Service{Name: gatewayv1connect.DirectoryServiceName}) // our own
	return cfg
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.handler.ServeHTTP(w, r) }

// ServePlain implements wire.PlainHandler.
func (g *Gateway) ServePlain(req *wire.Request) (*wire.Response, http.Handler) {
	return g.front.servePlain(req)
}

// Drain makes the gateway's health say NOT_SERVING, so that no new calls come, and
// ends holds with handles.
func (g *Gateway) Drain() {
	g.health.draining.Store(true)
	g.drain()
}

// End ends the calls that their services have not answered. It hands off those calls that may be stored; the callers of all others get an error.
func (g *Gateway) End() {
	by := time.Now().Add(lastOffers)
	g.front.endBy.Store(&by)
	g.end()
}

// Run compares the gateway's routes and schemas with those of the MOMs, and logs outages, until ctx ends. The caller ends ctx
// when the gateway serves nothing any more. Run then sends the MOMs the words about tasks that are still to be sent (see words), for at most
// settleTime, and drops idle connections.
func (g *Gateway) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return g.front.outages.Run(ctx) })
	group.Go(func() error { return g.learner.Run(ctx) })
	group.Go(func() error { return g.leaving.Run(ctx) })
	if g.meeting != nil {
		group.Go(func() error { return g.meeting.Run(ctx) })
	}
	err := group.Wait()
	g.words.close()
	for _, t := range g.targets.all() {
		t.pool.Close()
	}
	return err
}
