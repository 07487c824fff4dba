package cmd

import (
	"context"
	"fmt"
	"io"

	"holdline/internal/stack"
	"holdline/services"
)

// Up is `holdline up`.
type Up struct {
	Listen  string   `default:"127.0.0.1:8080" help:"The gateway's address."`
	Without []string `placeholder:"SERVICE" help:"Leave a service down; repeated."`
	Logs
}

// Run runs everything until it is interrupted.
func (c *Up) Run(ctx context.Context, out io.Writer) error {
	s, err := stack.New(stack.Config{
		Listen:  c.Listen,
		Without: c.Without,
		// A playground: pages of any origin may try it.
		CORSOrigins: []string{"*"},
		Logger:      c.logger(),
	})
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\n  %-16s http://%s\n", "gateway", s.Gateway)
	for _, svc := range services.All {
		_, _ = fmt.Fprintf(out, "  %-16s http://%s\n", svc.Name, s.Service[svc.Name])
	}
	_, _ = fmt.Fprintf(out, `
Try it in another terminal:

  curl -d '{"a": 1, "b": 2}' -H 'Content-Type: application/json' http://%[1]s/arithmetic.v1.SumService/Sum
  buf curl --protocol grpc --http2-prior-knowledge -d '{"a": 1, "b": 2}' http://%[1]s/arithmetic.v1.SumService/Sum
  go run . services --server http://%[1]s

Ctrl-C ends it.

`, s.Gateway)
	return s.Run(ctx)
}
