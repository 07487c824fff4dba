// Package stack is the whole system in one process: the shipped services and a
// gateway in front of them. `holdline up`, the end-to-end tests and the
// benchmarks run it.
package stack

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"

	"connectrpc.com/connect/v2"
	"connectrpc.com/grpchealth"
	"golang.org/x/sync/errgroup"

	"holdline/gateway"
	"holdline/internal/route"
	"holdline/internal/server"
	"holdline/services"
)

// Config is what a stack is told. A zero field means its default.
type Config struct {
	Listen string // the gateway's address; default 127.0.0.1:8080
	// ServicePort returns the port of a service; default its own. "0" is any
	// free one.
	ServicePort func(services.Service) string
	Without     []string // services to leave down, by short name
	Routes      []string // more routes, beside those of the shipped services
	Schemas     []string // more schemas, as Buf images
	CORSOrigins []string // default none
	Logger      *slog.Logger
}

// Stack is a system whose listeners are open.
type Stack struct {
	Gateway string            // address
	Service map[string]string // short name → address, those left down too
	servers []*server.Server
	gateway *gateway.Gateway
}

// host is where services listen: they have no business outside of this machine.
const host = "127.0.0.1"

// New opens all listeners.
func New(cfg Config) (_ *Stack, err error) {
	s := &Stack{Service: map[string]string{}}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	for _, name := range cfg.Without {
		if _, ok := services.Find(name); !ok {
			return nil, fmt.Errorf("no service %q to leave down; there are %s", name, services.Names())
		}
	}
	if cfg.ServicePort == nil {
		cfg.ServicePort = func(svc services.Service) string { return svc.Port }
	}
	specs := slices.Clone(cfg.Routes)
	for _, svc := range services.All {
		addr := net.JoinHostPort(host, cfg.ServicePort(svc))
		part, err := NewService(svc, addr, cfg.Logger)
		if err != nil {
			return nil, err
		}
		s.Service[svc.Name] = part.Addr()
		specs = append(specs, svc.FullName+"=http://"+part.Addr())
		if slices.Contains(cfg.Without, svc.Name) {
			part.Close() // the port is known, and free again
			continue
		}
		s.servers = append(s.servers, part)
	}
	routes, err := route.ParseTable(specs)
	if err != nil {
		return nil, err
	}
	schemas, err := route.LoadSchemas(cfg.Schemas...)
	if err != nil {
		return nil, err
	}
	s.gateway, err = gateway.New(gateway.Config{
		Routes: routes, Schemas: schemas, CORSOrigins: cfg.CORSOrigins, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	front, err := server.Listen(cmp.Or(cfg.Listen, "127.0.0.1:8080"), s.gateway, cfg.Logger, s.gateway.Drain)
	if err != nil {
		return nil, err
	}
	s.Gateway = front.Addr()
	s.servers = append(s.servers, front)
	return s, nil
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
	var handler http.Handler = server.Mux(rpc, health)
	return server.Listen(addr, handler, log.With("service", svc.FullName), drain)
}

// Run serves until ctx ends, then drains: the gateway first, so that calls in
// flight still find their services.
func (s *Stack) Run(ctx context.Context) error {
	defer s.gateway.Close()
	behind, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	last := len(s.servers) - 1
	for _, part := range s.servers[:last] {
		group.Go(func() error { return part.Run(behind) })
	}
	group.Go(func() error {
		defer stop()
		return s.servers[last].Run(ctx)
	})
	return group.Wait()
}

// Close closes the listeners of a stack that is never run.
func (s *Stack) Close() {
	for _, part := range s.servers {
		part.Close()
	}
}
