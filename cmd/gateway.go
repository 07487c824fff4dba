package cmd

import (
	"context"
	"net/url"

	"holdline/gateway"
	"holdline/internal/reload"
	"holdline/internal/route"
	"holdline/internal/server"
	"holdline/internal/stack"
)

// Gateway is `holdline gateway`.
type Gateway struct {
	Listen     string   `default:"${gateway_listen}" help:"The address to listen on."`
	MOM        []string `name:"mom" placeholder:"URL" help:"The MOM that stores the calls that their service cannot take. Separate several MOMs with commas. Without this flag no call is stored."`
	CORSOrigin []string `name:"cors-origin" placeholder:"ORIGIN" help:"An origin whose web pages may call, such as https://app.example, or * for all origins. Pages may send any header, but no cookies. May be repeated."`
	TLSCert    string   `name:"tls-cert" type:"existingfile" and:"tls" placeholder:"FILE" help:"Speak TLS with the certificate and the chain in this PEM file. The file is read again when it changes."`
	TLSKey     string   `name:"tls-key" type:"existingfile" and:"tls" placeholder:"FILE" help:"The PEM file with the key of the certificate."`
	MaxCalls   int      `default:"${gateway_max_calls}" help:"Maximum number of calls under way. A call beyond that is answered with unavailable."`
	MaxHeld    int      `default:"${gateway_max_held}" help:"Maximum number of callers that are held. A caller beyond that gets its handle at once."`
	Shared
	Routing
	Limits
	Admin
	Metrics
	Logs
}

// Run serves until it is interrupted, and then drains.
func (c *Gateway) Run(ctx context.Context) error {
	economize(ctx)
	log, metrics := c.logger(), server.NewMetrics()
	files := reload.New(metrics, log)
	load := func() (route.Table, *route.Schemas, error) { return c.load(files.Read) }
	routes, schemas, err := load()
	if err != nil {
		return usage(err)
	}
	moms := make([]*url.URL, len(c.MOM))
	for i, raw := range c.MOM {
		if moms[i], err = route.ParseEndpoint(raw); err != nil {
			return usagef("--mom: %w", err)
		}
	}
	shared, err := c.secret(log)
	if err != nil {
		return usage(err)
	}
	node, err := stack.NewGateway(gateway.Config{
		Routes: routes, Schemas: schemas, MOM: moms, Secret: shared, Engine: c.engine(), CORSOrigins: c.CORSOrigin,
		MaxCalls: c.MaxCalls, MaxHeld: c.MaxHeld, Metrics: metrics, Logger: log,
	}, server.Config{
		Addr: c.Listen, Logger: log, CertFile: c.TLSCert, KeyFile: c.TLSKey,
		MetricsAddr: c.Metrics.Metrics, Metrics: metrics, AdminAddr: listenAt(c.Admin.Admin), Limits: c.limits(),
	})
	if err != nil {
		return err
	}
	return (&follower{node, files, load, routes, log}).Run(ctx)
}
