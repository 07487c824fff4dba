package gateway

import (
	"io"
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
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
	}
	req.Host = "" // the endpoint's own
	p.secret.Show(req.Header)
	res, _, err := p.pick().Try(req.Context(), &upstream.Request{In: req, Header: req.Header, Body: body, Length: int64(len(body))})
	if err != nil {
		return nil, err
	}
	return res.HTTP(), nil
}
