// Package gateway is a thin, transparent reverse proxy for Connect and gRPC
// services. It knows routes and schemas, and what is to be done when a service
// does not answer; it decodes no message and touches no store.
package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"

	"connectrpc.com/connect/v2"
	"connectrpc.com/cors"
	"connectrpc.com/grpcreflect/v2"
	"github.com/prometheus/client_golang/prometheus"
	rscors "github.com/rs/cors"

	"holdline/gateway/docs"
	"holdline/gen/gateway/v1/gatewayv1connect"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/contract"
	"holdline/internal/route"
	"holdline/internal/server"
	"holdline/internal/upstream"
)

// Config is what a gateway is told. Routes, Schemas and Logger are required.
type Config struct {
	Routes  route.Table
	Schemas *route.Schemas
	// MOM is where calls go that their service cannot take, one URL an
	// instance. Default: none, and nothing is stored.
	MOM []*url.URL
	// CORSOrigins may call from a browser, such as https://app.example; * is
	// any. Default: none.
	CORSOrigins []string
	// MaxCalls is how many calls may be under way at once; one more is
	// unavailable. Default 10 000.
	MaxCalls int
	// MaxHeld is how many of them may wait for the answer of a stored call; one
	// more gets its handle at once. Default 5 000: an outage of one service
	// leaves room for the calls of the others.
	MaxHeld int
	// Metrics registers the gateway's series. Default: nobody reads them.
	Metrics prometheus.Registerer
	Logger  *slog.Logger
}

// Gateway is an http.Handler, safe for concurrent use.
type Gateway struct {
	handler http.Handler
	targets map[string]*target
	health  *health
	drain   context.CancelFunc
}

// New dials nothing: services may come later.
func New(cfg Config) (*Gateway, error) {
	if len(cfg.Routes) == 0 {
		return nil, route.ErrNoRoutes
	}
	if cfg.Schemas == nil || cfg.Logger == nil {
		return nil, errors.New("gateway: schemas and logger are required")
	}
	g := &Gateway{targets: make(map[string]*target, len(cfg.Routes))}
	draining, drain := context.WithCancel(context.Background())
	g.drain = drain
	front := &proxy{
		targets: g.targets, schemas: cfg.Schemas, draining: draining,
		maxHeld: int64(cmp.Or(cfg.MaxHeld, 5_000)), log: cfg.Logger,
	}
	metrics := newMetrics(cfg.Metrics, &front.held)
	for name, r := range cfg.Routes {
		t := &target{route: r, pool: upstream.NewPool(name, r.Endpoints, cfg.Logger), budget: newBudget(), stores: true}
		t.calls, t.attempts = metrics.of(name, t.pool)
		g.targets[name] = t
	}
	services := cfg.Routes.Services()
	var tasks *target
	if len(cfg.MOM) > 0 {
		front.mom = upstream.NewPool(momv1connect.TaskServiceName, cfg.MOM, cfg.Logger)
		for _, name := range []string{momv1connect.QueueServiceName, momv1connect.TaskServiceName} {
			if g.targets[name] != nil {
				return nil, fmt.Errorf("route %s: this service is the MOM's own; give --mom instead", name)
			}
			tasks = &target{
				route:     &route.Route{Service: name, Endpoints: cfg.MOM},
				pool:      front.mom,
				budget:    newBudget(),
				operators: name == momv1connect.QueueServiceName,
			}
			tasks.calls, tasks.attempts = metrics.of(name, front.mom)
			g.targets[name] = tasks
			services = append(services, name)
		}
	}
	g.health = &health{targets: g.targets}

	rpc := connect.NewServer()
	gatewayv1connect.RegisterDirectoryServiceHandler(rpc, &directory{
		services: slices.Sorted(slices.Values(services)), targets: g.targets, schemas: cfg.Schemas,
	})
	mux := server.Mux(rpc, g.health,
		grpcreflect.WithNamer(grpcreflect.NamerFunc(func() []string {
			return slices.Sorted(slices.Values(append(services[:len(services):len(services)], gatewayv1connect.DirectoryServiceName)))
		})),
		grpcreflect.WithDescriptorResolver(cfg.Schemas),
		grpcreflect.WithExtensionResolver(cfg.Schemas),
	)
	if err := docs.Mount(mux, docs.Config{
		Services: g.described(services, tasks != nil), Schemas: cfg.Schemas, Tasks: tasks != nil, Logger: cfg.Logger,
	}); err != nil {
		return nil, err
	}
	mux.HandleFunc("/", nobody)
	if tasks != nil {
		mux.HandleFunc("/v1/tasks/", func(w http.ResponseWriter, r *http.Request) { front.serve(w, r, tasks) })
	}
	front.own = mux
	g.handler = withCORS(limitCalls(front, cmp.Or(cfg.MaxCalls, 10_000)), cfg.CORSOrigins)
	return g, nil
}

// described is what the docs are to know of the services: the routed ones, and the
// gateway's own.
func (g *Gateway) described(routed []string, tasks bool) (list []docs.Service) {
	for _, name := range routed {
		list = append(list, docs.Service{Name: name, Proxied: true, Stored: tasks && g.targets[name].stores})
	}
	return append(list, docs.Service{Name: gatewayv1connect.DirectoryServiceName})
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.handler.ServeHTTP(w, r) }

// Drain makes the gateway's health say NOT_SERVING, so that no new calls come, and
// ends holds with handles.
func (g *Gateway) Drain() {
	g.health.draining.Store(true)
	g.drain()
}

// Close drops idle connections to services, once nothing is served any more.
func (g *Gateway) Close() {
	for _, t := range g.targets {
		t.pool.Close()
	}
}

// withCORS lets browsers on other origins call, and see what Holdline says.
func withCORS(handler http.Handler, origins []string) http.Handler {
	if len(origins) == 0 {
		return handler
	}
	return rscors.New(rscors.Options{
		AllowedOrigins: origins,
		AllowedMethods: cors.AllowedMethods(),
		AllowedHeaders: append(cors.AllowedHeaders(),
			contract.HeaderKey, contract.HeaderPrefer, contract.HeaderTTL,
			contract.HeaderAnswerTTL, contract.HeaderMode, contract.HeaderExplain),
		ExposedHeaders: append(cors.ExposedHeaders(),
			contract.HeaderTask, contract.HeaderDecision, contract.HeaderApplied,
			contract.HeaderReplayed, "Location", "Retry-After"),
		MaxAge: 7200, // what Chromium keeps at most
	}).Handler(handler)
}
