package cmd

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/grpchealth"

	"holdline/internal/route"
	"holdline/internal/upstream"
)

// healthTimeout is less than what a container's health check usually has.
const healthTimeout = 2 * time.Second

// Healthcheck is `holdline healthcheck`.
type Healthcheck struct {
	URL    string `arg:"" optional:"" name:"url" help:"The server, such as http://127.0.0.1:8080. A path names one of its services. Default: the server on this machine that listens at --listen, with TLS or without."`
	Listen string `default:"${gateway_listen}" help:"The address at which the server on this machine listens."`
}

// Run exits with 0 when the server, or the service, is healthy, and else says why it
// is not.
func (c *Healthcheck) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	if c.URL != "" {
		return c.check(ctx)
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return usagef("--listen: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	address := net.JoinHostPort(host, port)
	c.URL = "http://" + address
	if err = c.check(ctx); err == nil {
		return nil
	}
	// The command line of the server says whether it speaks TLS, and this one does not.
	switch status, tlsErr := checkOwnTLS(ctx, "https://"+address); {
	case tlsErr != nil:
		return err
	case status != grpchealth.StatusServing:
		return fmt.Errorf("https://%s is not healthy: not-serving", address)
	}
	return nil
}

// check asks the server of the URL.
func (c *Healthcheck) check(ctx context.Context) error {
	endpoint, service, err := c.ask()
	if err != nil {
		return err
	}
	pool := upstream.NewPool(upstream.Config{Service: service, Endpoints: []*url.URL{endpoint}, Health: upstream.HealthName, Log: slog.New(slog.DiscardHandler)})
	defer pool.Close()
	if !pool.Healthy(ctx) {
		return fmt.Errorf("%s is not healthy: %s", c.URL, cmp.Or(pool.Ailment(), "no address"))
	}
	return nil
}

// checkOwnTLS asks a server on this machine. Its certificate is for callers, and names the address at which they call.
func checkOwnTLS(ctx context.Context, address string) (grpchealth.Status, error) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // nothing is told to the server, and it is on this machine
	defer transport.CloseIdleConnections()
	res, err := grpchealth.NewClient(&http.Client{Transport: transport}, address).Check(ctx, &grpchealth.CheckRequest{})
	if err != nil {
		return grpchealth.StatusUnknown, err //nolint:wrapcheck // it only says that this is no such server
	}
	return res.Status, nil
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
