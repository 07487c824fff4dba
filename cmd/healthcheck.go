package cmd

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"holdline/internal/route"
	"holdline/internal/upstream"
)

// healthTimeout is less than what a container's health check usually has.
const healthTimeout = 2 * time.Second

// Healthcheck is `holdline healthcheck`.
type Healthcheck struct {
	URL    string `arg:"" optional:"" name:"url" help:"The server, such as http://127.0.0.1:8080. A path names one of its services. Default: the server on this machine that listens at --listen."`
	Listen string `default:"${gateway_listen}" help:"The address at which the server on this machine listens."`
}

// Run exits with 0 when the server, or the service, is healthy, and else says why it
// is not.
func (c *Healthcheck) Run(ctx context.Context) error {
	if c.URL == "" {
		host, port, err := net.SplitHostPort(c.Listen)
		if err != nil {
			return usagef("--listen: %w", err)
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		c.URL = "http://" + net.JoinHostPort(host, port)
	}
	endpoint, service, err := c.ask()
	if err != nil {
		return err
	}
	pool := upstream.NewPool(upstream.Config{Service: service, Endpoints: []*url.URL{endpoint}, Health: upstream.HealthName, Log: slog.New(slog.DiscardHandler)})
	defer pool.Close()
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	if !pool.Healthy(ctx) {
		return fmt.Errorf("%s is not healthy: %s", c.URL, cmp.Or(pool.Ailment(), "no address"))
	}
	return nil
}

// ask reads the URL: which server is asked, and for which of its services; empty for all.
func (c *Healthcheck) ask() (endpoint *url.URL, service string, err error) {
	bare := c.URL
	if u, err := url.Parse(c.URL); err == nil && u.Host != "" {
		service = strings.Trim(u.Path, "/")
		u.Path = ""
		bare = u.String()
	}
	endpoint, err = route.ParseEndpoint(bare)
	return endpoint, service, usage(err)
}
