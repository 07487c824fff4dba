// Package stack is the whole system in one process: the shipped services, a MOM
// with its Redis, and a gateway in front of them. `holdline up`, the end-to-end
// tests and the benchmarks run it.
package stack

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"

	"connectrpc.com/connect/v2"
	"connectrpc.com/grpchealth"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"holdline/gateway"
	"holdline/internal/route"
	"holdline/internal/secret"
	"holdline/internal/server"
	"holdline/internal/wire"
	"holdline/mom"
	"holdline/mom/redisstore"
	"holdline/services"
)

// DefaultListen is the address of a stack's gateway.
const DefaultListen = "127.0.0.1:8080"

// Config is what a stack is told. A zero field means its default.
type Config struct {
	Listen string // the gateway's address; default DefaultListen
	// Port returns the port of "mom" or of a service, by its short name and its usual
	// port. "0" means any free port. Default: the usual port.
	Port    func(name, usual string) string
	Without []string // services to leave down, by short name
	// NoServices: there are no shipped services, nor routes to them.
	NoServices bool
	Routes     []string // more routes, beside those of the shipped services
	Schemas    []string // more schemas, as Buf images
	// ReadFile reads them. Default os.ReadFile.
	ReadFile route.ReadFile
	// Engine speaks HTTP.
	Engine wire.Engine
	// CORSOrigins may call the gateway from a browser. Default none.
	CORSOrigins []string
	// Redis is the URL of a Redis. Default: the stack has a Redis of its own. Its data
	// is kept in State if there is a redis-server or valkey-server on PATH, else in memory.
	Redis string
	// RedisPrefix is put before every key, so that several stacks can share a Redis.
	RedisPrefix string
	State       string
	Secret      *secret.Secret // of gateway and MOM; default none
	// Registry has the series of gateway and MOM. Default: one of their own.
	Registry *prometheus.Registry
	Metrics  string // where those are served; default nowhere
	Admin    string // where operators are; default nowhere
	Logger   *slog.Logger
}

// Stack is a system whose listeners are open.
type Stack struct {
	Gateway, MOM string            // addresses
	Metrics      string            // address; empty without
	Admin        string            // address; empty without
	Service      map[string]string // short name → address, those left down too
	// Volatile: there is no redis-server or valkey-server, so tasks are lost when this process ends.
	Volatile bool
	// Shipped are the routes to the shipped services, as --route has them, and Routes are all with which the stack began.
	Shipped []string
	Routes  route.Table

	gateway  *Node
	mom      *Node
	redis    *embedded // nil when a URL is given
	services []*server.Server
}

const (
	// host is where all but the gateway listen: nobody outside needs them.
	host    = "127.0.0.1"
	momPort = "8090"
)

// New opens all listeners and dials nothing.
func New(cfg Config) (_ *Stack, err error) {
	s := &Stack{Service: map[string]string{}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if cfg.Port == nil {
		cfg.Port = func(_, usual string) string { return usual }
	}
	if cfg.ReadFile == nil {
		cfg.ReadFile = os.ReadFile
	}
	if s.Shipped, err = s.openServices(cfg); err != nil {
		return nil, err
	}
	schemas, err := s.readRoutes(cfg)
	if err != nil {
		return nil, &server.ConfigError{Err: err}
	}
	metrics := cfg.Registry
	if metrics == nil {
		metrics = server.NewMetrics()
	}
	if err := s.openMOM(cfg, s.Routes, schemas, metrics); err != nil {
		return nil, err
	}
	s.gateway, err = NewGateway(gateway.Config{
		Routes: s.Routes, Schemas: schemas, CORSOrigins: cfg.CORSOrigins, Engine: cfg.Engine, Metrics: metrics, Logger: cfg.Logger,
		MOM: []*url.URL{{Scheme: "http", Host: s.MOM}}, Secret: cfg.Secret,
	}, server.Config{
		Addr: cmp.Or(cfg.Listen, DefaultListen), Logger: cfg.Logger,
		MetricsAddr: cfg.Metrics, Metrics: metrics, AdminAddr: cfg.Admin,
		Drain: s.mom.Drain, // holds end with handles now, not when the gateway's time is up
	})
	if err != nil {
		return nil, err
	}
	s.Gateway, s.Metrics, s.Admin = s.gateway.Addr(), s.gateway.MetricsAddr(), s.gateway.AdminAddr()
	return s, nil
}

// readRoutes reads the routes, of which there must be some, and the schemas.
func (s *Stack) readRoutes(cfg Config) (schemas *route.Schemas, err error) {
	if s.Routes, err = route.ParseTable(slices.Concat(s.Shipped, cfg.Routes)); err != nil {
		return nil, err
	}
	if len(s.Routes) == 0 {
		return nil, route.ErrNoRoutes
	}
	return s.Routes.ReadSchemas(cfg.ReadFile, cfg.Schemas...)
}

// openServices returns the routes of the services.
func (s *Stack) openServices(cfg Config) (specs []string, err error) {
	for _, name := range cfg.Without {
		if _, ok := services.Find(name); !ok {
			return nil, &server.ConfigError{Err: fmt.Errorf("no service %q to leave down; there are %s", name, services.Names())}
		}
	}
	if cfg.NoServices {
		return nil, nil
	}
	for _, svc := range services.All {
		part, err := NewService(svc, net.JoinHostPort(host, cfg.Port(svc.Name, svc.Port)), cfg.Logger)
		if err != nil {
			return nil, err
		}
		s.Service[svc.Name] = part.Addr()
		specs = append(specs, svc.FullName+"=http://"+part.Addr())
		if slices.Contains(cfg.Without, svc.Name) {
			part.Close() // its port is known, and free again
		} else {
			s.services = append(s.services, part)
		}
	}
	return specs, nil
}

func (s *Stack) openMOM(cfg Config, routes route.Table, schemas *route.Schemas, metrics prometheus.Registerer) (err error) {
	if cfg.Redis == "" {
		if s.redis, err = newEmbedded(cfg.State); err != nil {
			return err
		}
		s.Volatile = s.redis.inside != nil
		cfg.Redis = s.redis.url
	}
	s.mom, err = NewMOM(
		mom.Config{Routes: routes, Schemas: schemas, Secret: cfg.Secret, Engine: cfg.Engine, Metrics: metrics, Logger: cfg.Logger},
		redisstore.Config{URL: cfg.Redis, Embedded: s.Volatile, Prefix: cfg.RedisPrefix, Logger: cfg.Logger},
		server.Config{Addr: net.JoinHostPort(host, cfg.Port("mom", momPort)), Logger: cfg.Logger.With("part", "mom")})
	if err != nil {
		return err
	}
	s.MOM = s.mom.Addr()
	return nil
}

// NewService opens the listener of one shipped service.
func NewService(svc services.Service, addr string, log *slog.Logger) (*server.Server, error) {
	rpc := connect.NewServer()
	svc.Register(rpc)
	health := grpchealth.NewStaticChecker(svc.FullName)
	drain := func() {
		health.SetStatus("", grpchealth.StatusNotServing)
		health.SetStatus(svc.FullName, grpchealth.StatusNotServing)
	}
	return server.Listen(server.Config{
		Addr: addr, Handler: server.Mux(rpc, health), Logger: log.With("service", svc.FullName), Drain: drain,
	})
}

// Run serves until ctx ends. Then it drains from the front to the back, gateway, MOM, services,
// Redis, so that a call under way still finds what it needs. If one part fails, all end.
func (s *Stack) Run(ctx context.Context) error {
	behind := []runner{}
	for _, svc := range s.services {
		behind = append(behind, svc)
	}
	if s.redis != nil {
		behind = append(behind, s.redis)
	}
	return serial(ctx, []runner{s.gateway}, []runner{afterRedis{s}}, behind)
}

// Replace puts other routes and schemas in the place of those that there are. The MOM has them first, so that it knows
// whatever the gateway hands off. If Replace returns an error, nothing has changed.
func (s *Stack) Replace(table route.Table, schemas *route.Schemas) error {
	if err := s.mom.Replace(table, schemas); err != nil {
		return err
	}
	return s.gateway.Replace(table, schemas) // it refuses no more than the MOM does
}

// afterRedis is the MOM, which begins when the Redis of its own listens: until then it would warn that
// there is none.
type afterRedis struct{ *Stack }

func (r afterRedis) Run(ctx context.Context) error {
	if r.redis != nil {
		r.redis.await(ctx)
	}
	return r.mom.Run(ctx)
}

// serial runs all parts at once and ends them rank by rank: the first with ctx,
// or when any part fails, each other once the one before it has ended.
func serial(ctx context.Context, ranks ...[]runner) error {
	rankCtx, stop := context.WithCancel(ctx)
	defer stop()
	var all errgroup.Group
	for _, rank := range ranks {
		var running errgroup.Group
		until := rankCtx
		for _, part := range rank {
			running.Go(func() error {
				err := part.Run(until)
				if err != nil {
					stop()
				}
				return err
			})
		}
		next, ended := context.WithCancel(context.WithoutCancel(ctx))
		all.Go(func() error {
			defer ended()
			return running.Wait()
		})
		rankCtx = next
	}
	return all.Wait()
}

// close releases what a stack that is never run has opened.
func (s *Stack) close() {
	for _, svc := range s.services {
		svc.Close()
	}
	s.mom.Close()
	s.gateway.Close()
	s.redis.close()
}
