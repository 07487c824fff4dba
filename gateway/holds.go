package gateway

import (
	"net/http"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/secret"
	"holdline/internal/upstream"
)

// holdsAt is the HoldService of whichever MOM is picked for each request.
func holdsAt(pick func() *upstream.Endpoint, shown *secret.Secret) momv1connect.HoldServiceClient {
	// The host is a placeholder: each request has its endpoint.
	return momv1connect.NewHoldServiceClient(connect.NewClient(connecthttp.NewTransport(picked{pick, shown}, "http://mom")))
}

// picked sends small requests of our own to MOMs.
type picked struct {
	pick   func() *upstream.Endpoint
	secret *secret.Secret
}

// Do implements connecthttp.HTTPClient.
func (p picked) Do(req *http.Request) (*http.Response, error) {
	out, err := upstream.Made(req, 1)
	if err != nil {
		return nil, err
	}
	p.secret.Show(out.Header)
	res, _, err := p.pick().Try(req.Context(), out)
	if err != nil {
		return nil, err
	}
	return res.HTTP(), nil
}
