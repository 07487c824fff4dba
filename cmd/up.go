package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"holdline/internal/reload"
	"holdline/internal/route"
	"holdline/internal/secret"
	"holdline/internal/server"
	"holdline/internal/stack"
	"holdline/services"
)

// Up is `holdline up`.
type Up struct {
	Listen     string   `default:"${gateway_address}" help:"The address of the gateway."`
	Ports      *uint16  `placeholder:"BASE" help:"Give everything another port: the gateway gets BASE, the example services the next three, the MOM BASE+10, and the admin listener BASE+11 unless --admin says where. With 0 each gets any port that is free."`
	Redis      string   `placeholder:"URL" help:"The Redis or Valkey that keeps the tasks, such as redis://127.0.0.1:6379. Default: a Redis of its own, with its data in --state, if redis-server or valkey-server is on PATH. If neither is there, tasks are kept in memory."`
	State      string   `placeholder:"DIR" default:"${state}" help:"The folder in which the Redis of its own keeps its data."`
	Without    []string `xor:"services" placeholder:"SERVICE" help:"Do not start this service: sum, subtraction or multiplication. May be repeated."`
	NoServices bool     `name:"no-services" xor:"services" help:"Start none of the three example services, and have no routes to them."`
	Routing
	Admin string `default:"${admin_address}" help:"Serve operators at this address, or at unix:PATH: queues, the tasks of all callers, /metrics and pprof. Empty: nowhere."`
	Metrics
	Logs

	adminGiven bool // on the command line
}

// AfterApply sees what was given on the command line. The variable of --admin says to the commands of operators where they ask, so it
// does not keep --ports from moving the admin listener.
func (c *Up) AfterApply(command *kong.Context) error {
	c.adminGiven = slices.ContainsFunc(command.Path, func(p *kong.Path) bool { return p.Flag != nil && p.Flag.Name == "admin" })
	return nil
}

// The places of a MOM and an admin listener in a block of ports.
const momPlace, adminPlace = 10, 11

// Run runs everything until it is interrupted.
func (c *Up) Run(ctx context.Context, out io.Writer) error {
	economize(ctx)
	if c.State != "" { // Redis works in another folder
		state, err := filepath.Abs(c.State)
		if err != nil {
			return err
		}
		c.State = state
	}
	log, metrics := c.logger(), server.NewMetrics()
	files := reload.New(metrics, log)
	specs, err := c.specs(files.Read)
	if err == nil && !c.NoServices {
		err = refuseShipped(specs)
	}
	if err != nil {
		return usage(err)
	}
	cfg := stack.Config{
		Listen:     c.Listen,
		Redis:      c.Redis,
		State:      c.State,
		Without:    c.Without,
		NoServices: c.NoServices,
		Routes:     specs,
		Schemas:    c.Schema,
		ReadFile:   files.Read,
		Engine:     c.engine(),
		Registry:   metrics,
		Metrics:    c.Metrics.Metrics,
		Admin:      listenAt(c.Admin),
		Secret:     secret.Random(),
		// This is a playground, so pages of any origin may try it.
		CORSOrigins: []string{"*"},
		Logger:      log,
	}
	if c.Ports != nil {
		if err := c.move(&cfg); err != nil {
			return err
		}
	}
	s, err := stack.New(cfg)
	var taken *server.TakenError
	if errors.As(err, &taken) && taken.Flag == "listen" {
		taken.Flag = "ports" // the MOM and the services have no other flag
	}
	if err != nil {
		return err
	}
	c.greet(out, s, specs)
	load := func() (route.Table, *route.Schemas, error) { return c.load(files.Read, s.Shipped...) }
	return (&follower{s, files, load, s.Routes, log}).Run(ctx)
}

// refuseShipped refuses routes of the example services, which have their own. ParseTable would say that they are given twice.
func refuseShipped(specs []string) error {
	for _, spec := range specs {
		name, _, _ := strings.Cut(spec, "=")
		if slices.ContainsFunc(services.All, func(svc services.Service) bool { return svc.FullName == name }) {
			return fmt.Errorf("route %s: up runs an example service of this name; --no-services leaves out the example services", name)
		}
	}
	return nil
}

// move gives all parts the ports of --ports, but for an admin listener whose place was given too.
func (c *Up) move(cfg *stack.Config) (err error) {
	port := func(place int) string {
		if *c.Ports == 0 {
			return "0"
		}
		return strconv.Itoa(int(*c.Ports) + place)
	}
	if *c.Ports > math.MaxUint16-adminPlace {
		return usagef("--ports: %d is too high, since the last of its ports is %d ports above it", *c.Ports, adminPlace)
	}
	if cfg.Listen, err = withPort("--listen", cfg.Listen, port(0)); err != nil {
		return err
	}
	if cfg.Admin != "" && !c.adminGiven && !strings.HasPrefix(cfg.Admin, unixPrefix) {
		if cfg.Admin, err = withPort("--admin", cfg.Admin, port(adminPlace)); err != nil {
			return err
		}
	}
	cfg.Port = func(name, _ string) string {
		place := slices.IndexFunc(services.All, func(svc services.Service) bool { return svc.Name == name })
		if place < 0 {
			return port(momPlace)
		}
		return port(1 + place)
	}
	return nil
}

// withPort replaces the port in the address of a flag.
func withPort(flag, addr, port string) (string, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "", usagef("%s: %q, want host:port", flag, addr)
	}
	return net.JoinHostPort(host, port), nil
}

// greet prints where everything is, and what to try.
func (c *Up) greet(out io.Writer, s *stack.Stack, routes []string) {
	width := 16
	for _, spec := range routes {
		service, _, _ := strings.Cut(spec, "=")
		width = max(width, len(service))
	}
	row := func(name, where string) { _, _ = fmt.Fprintf(out, "  %-*s %s\n", width, name, where) }
	line := func(name, addr, note string) { row(name, "http://"+addr+note) }
	_, _ = fmt.Fprintln(out)
	line("gateway", s.Gateway, "")
	line("docs", s.Gateway, "/docs")
	line("mom", s.MOM, "")
	for _, svc := range services.All {
		switch addr := s.Service[svc.Name]; {
		case c.NoServices:
		case slices.Contains(c.Without, svc.Name):
			line(svc.Name, addr, "   not started")
		default:
			line(svc.Name, addr, "")
		}
	}
	for _, spec := range routes {
		service, urls, _ := strings.Cut(spec, "=")
		urls, _, _ = strings.Cut(urls, ";")
		row(service, urls)
	}
	switch {
	case strings.HasPrefix(s.Admin, "unix:"):
		row("admin", s.Admin)
	case s.Admin != "":
		line("admin", s.Admin, "/metrics")
	}
	if s.Metrics != "" {
		line("metrics", s.Metrics, "/metrics")
	}
	if s.Volatile {
		_, _ = fmt.Fprintln(out, "\n  Neither redis-server nor valkey-server is on PATH: tasks are kept in memory, and are lost when this command ends.")
	}
	_, _ = fmt.Fprint(out, "\nTry it in another terminal:\n\n")
	if c.NoServices {
		service, _, _ := strings.Cut(routes[0], "=")
		_, _ = fmt.Fprintf(out, `  %[3]s services --server http://%[1]s
  curl -d '{}' -H 'Content-Type: application/json' http://%[1]s/%[2]s/METHOD

To play an outage, end a service, call it, and start it again.

`, s.Gateway, service, self())
		return
	}
	_, _ = fmt.Fprintf(out, `  curl -d '{"a": 1, "b": 2}' -H 'Content-Type: application/json' http://%[1]s/arithmetic.v1.SumService/Sum
  buf curl --protocol grpc --http2-prior-knowledge -d '{"a": 1, "b": 2}' http://%[1]s/arithmetic.v1.SumService/Sum
  %[2]s services --server http://%[1]s

`, s.Gateway, self())
	if len(c.Without) == 0 {
		_, _ = fmt.Fprint(out, "To play an outage, end this command and start it again with --without sum.\n\n")
		return
	}
	down, _ := services.Find(c.Without[0])
	starts := "service " + down.Name
	if _, port, err := net.SplitHostPort(s.Service[down.Name]); err == nil && port != down.Port {
		starts += " --listen " + s.Service[down.Name] // where its route goes
	}
	_, _ = fmt.Fprintf(out, `Play the outage: the first command calls the service that is down, and waits up to 10 s for the answer. The second
command starts the service, and the stored call is answered.

  %[5]s call %[2]s/%[3]s -d '{"a": 1, "b": 2}' --server http://%[1]s
  %[5]s %[4]s
`, s.Gateway, down.FullName, down.Method, starts, self())
	if s.Admin != "" {
		_, _ = fmt.Fprintf(out, "  %s task list --admin %s\n", self(), s.Admin)
	}
	_, _ = fmt.Fprintln(out)
}

// self is this command as its user typed it. What `go run .` has built lies among the builds of go.
func self() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ."
	}
	return os.Args[0]
}
