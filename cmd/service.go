package cmd

import (
	"context"

	"holdline/internal/stack"
	"holdline/services"
)

// Service is `holdline service`.
type Service struct {
	Name   string `arg:"" help:"The service: sum, subtraction or multiplication."`
	Listen string `placeholder:":PORT" help:"The address to listen on. Default: ${service_ports}."`
	Logs
}

// Run serves until it is interrupted, and then drains.
func (c *Service) Run(ctx context.Context) error {
	economize(ctx)
	svc, ok := services.Find(c.Name)
	if !ok {
		return usagef("no service %q; there are %s", c.Name, services.Names())
	}
	if c.Listen == "" {
		c.Listen = ":" + svc.Port
	}
	log := c.logger()
	defer announceEnd(ctx, log)()
	s, err := stack.NewService(svc, c.Listen, log)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}
