package cmd

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"holdline/internal/secret"
	"holdline/internal/stack"
	"holdline/services"
)

// Up is `holdline up`.
type Up struct {
	Listen  string   `default:"${gateway_address}" help:"The address of the gateway."`
	Redis   string   `placeholder:"URL" help:"The Redis or Valkey that keeps the tasks, such as redis://127.0.0.1:6379. Default: a Redis of its own, with its data in --state, if redis-server or valkey-server is on PATH. If neither is there, tasks are kept in memory."`
	State   string   `placeholder:"DIR" default:"${state}" help:"The folder in which the Redis of its own keeps its data."`
	Without []string `placeholder:"SERVICE" help:"Do not start this service: sum, subtraction or multiplication. May be repeated."`
	Admin   string   `default:"${admin_address}" help:"Serve operators at this address, or at unix:PATH: queues, the tasks of all callers, /metrics and pprof. Empty: nowhere."`
	Metrics
	Logs
}

// Run runs everything until it is interrupted.
func (c *Up) Run(ctx context.Context, out io.Writer) error {
	log := c.logger()
	defer announceEnd(ctx, log)()
	s, err := stack.New(stack.Config{
		Listen:  c.Listen,
		Redis:   c.Redis,
		State:   c.State,
		Without: c.Without,
		Metrics: c.Metrics.Metrics,
		Admin:   listenAt(c.Admin),
		Secret:  secret.Random(),
		// This is a playground, so pages of any origin may try it.
		CORSOrigins: []string{"*"},
		Logger:      log,
	})
	if err != nil {
		return err
	}
	c.greet(out, s)
	return s.Run(ctx)
}

// greet prints where everything is, and what to try.
func (c *Up) greet(out io.Writer, s *stack.Stack) {
	line := func(name, addr, note string) {
		_, _ = fmt.Fprintf(out, "  %-16s http://%s%s\n", name, addr, note)
	}
	_, _ = fmt.Fprintln(out)
	line("gateway", s.Gateway, "")
	line("docs", s.Gateway, "/docs")
	line("mom", s.MOM, "")
	for _, svc := range services.All {
		note := ""
		if slices.Contains(c.Without, svc.Name) {
			note = "   not started"
		}
		line(svc.Name, s.Service[svc.Name], note)
	}
	switch {
	case strings.HasPrefix(s.Admin, "unix:"):
		_, _ = fmt.Fprintf(out, "  %-16s %s\n", "admin", s.Admin)
	case s.Admin != "":
		line("admin", s.Admin, "/metrics")
	}
	if s.Metrics != "" {
		line("metrics", s.Metrics, "/metrics")
	}
	if s.Volatile {
		_, _ = fmt.Fprintln(out, "\n  Neither redis-server nor valkey-server is on PATH: tasks are kept in memory, and are lost when this command ends.")
	}
	_, _ = fmt.Fprintf(out, `
Try it in another terminal:

  curl -d '{"a": 1, "b": 2}' -H 'Content-Type: application/json' http://%[1]s/arithmetic.v1.SumService/Sum
  buf curl --protocol grpc --http2-prior-knowledge -d '{"a": 1, "b": 2}' http://%[1]s/arithmetic.v1.SumService/Sum
  go run . services --server http://%[1]s

`, s.Gateway)
	if len(c.Without) == 0 {
		_, _ = fmt.Fprint(out, "To play an outage, end this command and start it again with --without sum.\n\n")
		return
	}
	down, _ := services.Find(c.Without[0])
	_, _ = fmt.Fprintf(out, `Play the outage: the first command calls the service that is down, and waits up to 10 s for the answer. The second
command starts the service, and the stored call is answered.

  go run . call %[2]s/%[3]s -d '{"a": 1, "b": 2}' --server http://%[1]s
  go run . service %[4]s
`, s.Gateway, down.FullName, down.Method, down.Name)
	if s.Admin != "" {
		_, _ = fmt.Fprintf(out, "  go run . task list --admin %s\n", s.Admin)
	}
	_, _ = fmt.Fprintln(out)
}
