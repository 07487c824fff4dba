package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/url"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
)

// Health is the question by which we find out whether a route's endpoints are healthy.
type Health uint8

const (
	// HealthAuto asks for the service by its name. Where no endpoint has ever known that name, it asks
	// for the server as a whole. A server that answers, and does not say that it is not serving, is alive.
	HealthAuto Health = iota
	// HealthName asks for the service by its name. If a server does not know the name, or has no health service, another service listens there.
	HealthName
	// HealthOverall asks for the server as a whole.
	HealthOverall
	// HealthDial asks nothing. An endpoint that can be dialled is healthy.
	HealthDial
)

// Ailments of endpoints that answer.
const (
	notServing     = "not-serving"
	anotherService = "another-service"
)

// Healthy reports whether the endpoint is healthy, in the way that its route asks for. The breaker, the
// ejection of endpoints, the addresses of names and the replay all use it.
func (e *Endpoint) Healthy(ctx context.Context) bool {
	ailment := e.ailment(ctx)
	if ailment != "" && !errors.Is(ctx.Err(), context.Canceled) {
		e.pool.ailment.Store(&ailment)
	}
	return ailment == ""
}

// ailment is the reason why an endpoint is not healthy, in a word; empty when it is healthy.
func (e *Endpoint) ailment(ctx context.Context) string {
	name := e.pool.service
	health := e.pool.says.Load().Health
	switch health {
	case HealthDial:
		if why := e.dials(ctx); why != "" || !e.silent.Load() {
			return why
		}
		return e.staysSilent(ctx)
	case HealthOverall:
		name = ""
	}
	why := e.ask(ctx, name)
	if why != anotherService {
		return why
	}
	if health == HealthName || e.pool.named.Load() {
		return anotherService // its address now belongs to another service
	}
	if name != "" {
		why = e.ask(ctx, "")
	}
	if why == anotherService { // the server does not know the empty name, which stands for the server itself, but it answers
		return ""
	}
	return why
}

// ask asks grpc.health.v1 for a name, in a version of HTTP that the endpoint speaks.
func (e *Endpoint) ask(ctx context.Context, name string) (why string) {
	askers := e.askers()
	for i, asker := range askers {
		bounded, cancel := ctx, context.CancelFunc(func() {})
		if deadline, ok := ctx.Deadline(); ok { // the server may not answer the first question at all
			bounded, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(askers)-i))
		}
		serving, status, err := asker.ask(bounded, name)
		late := bounded.Err() != nil
		cancel()
		switch {
		case err == nil:
			if name != "" && !e.pool.named.Load() && !e.gone.Load() {
				e.pool.named.Store(true)
			}
			if serving == grpchealth.StatusNotServing {
				return notServing
			}
			return ""
		case ctx.Err() != nil:
			return "timeout"
		case status == 0, late:
			why = causeOf(err)
			continue
		}
		switch code := connect.CodeOf(err); {
		case code == connect.CodeUnavailable && status != http.StatusTooManyRequests, status == http.StatusBadGateway, status == http.StatusGatewayTimeout:
			return "unavailable" // from the endpoint, or from a proxy in front of it
		case code == connect.CodeNotFound:
			return anotherService
		case e.pool.says.Load().Health == HealthName && status != http.StatusTooManyRequests && (code == connect.CodeUnimplemented || !connect.IsWireError(err)):
			if status == http.StatusRequestTimeout || status >= http.StatusInternalServerError && status != http.StatusNotImplemented {
				return "unavailable" // says a proxy
			}
			return anotherService // the server has no health service, or is no RPC server at all, such as a web server
		}
		return ""
	}
	return why
}

// askers returns the askers that may reach the endpoint, the likeliest first.
func (e *Endpoint) askers() []*asker {
	overHTTP1, overHTTP2 := e.asking[of(1)], e.asking[of(2)]
	switch v := &e.versions; {
	case !v.allowed(2):
		return []*asker{overHTTP1}
	case !v.allowed(1):
		return []*asker{overHTTP2}
	case v.no[of(2)].Load():
		return []*asker{overHTTP1, overHTTP2}
	}
	return []*asker{overHTTP2, overHTTP1}
}

// staysSilent is the reason why a silent endpoint that can be dialled is not healthy: the kernel accepts connections for a frozen process, too. So
// it is asked for its health all the same. Any answer is a sign of life, and so is a closed connection.
func (e *Endpoint) staysSilent(ctx context.Context) (why string) {
	if hungUp(e.ask(ctx, e.pool.service)) {
		e.silent.Store(false)
	}
	if e.silent.Load() { // it is false if the endpoint has sent something
		return Silent
	}
	return ""
}

// dials tells whether somebody listens at the endpoint.
func (e *Endpoint) dials(ctx context.Context) (why string) {
	dialled, err := e.asking[0].transport.DialContext(ctx, "tcp", e.address())
	if err != nil {
		return causeOf(err)
	}
	defer func() { _ = dialled.Close() }()
	if e.url.Scheme == "https" {
		if err := tls.Client(dialled, &tls.Config{ServerName: e.url.Hostname(), MinVersion: tls.VersionTLS12}).HandshakeContext(ctx); err != nil {
			return causeOf(err)
		}
	}
	return ""
}

// address is the endpoint's host and port, as in its route.
func (e *Endpoint) address() string {
	if e.url.Port() == "" {
		return e.url.Host + ":" + portOf(e.url)
	}
	return e.url.Host
}

// asker asks for health over one version of HTTP.
type asker struct {
	*grpchealth.Client
	transport *http.Transport
}

func newAsker(transport *http.Transport, u *url.URL, options ...connect.ClientOption) *asker {
	client := &http.Client{
		Transport:     statusNoter{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &asker{grpchealth.NewClient(client, u.String(), options...), transport}
}

// ask returns the health, or an error and the HTTP status of the response; 0 when there was none.
func (a *asker) ask(ctx context.Context, name string) (serving grpchealth.Status, status int, err error) {
	res, err := a.Check(context.WithValue(ctx, statusKey{}, &status), &grpchealth.CheckRequest{Service: name})
	if err != nil {
		return 0, status, err
	}
	return res.Status, status, nil
}

type statusKey struct{}

// statusNoter writes the HTTP status of a response into its request's context.
type statusNoter struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (s statusNoter) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := s.RoundTripper.RoundTrip(req)
	if status, ok := req.Context().Value(statusKey{}).(*int); ok && res != nil {
		*status = res.StatusCode
	}
	return res, err
}
