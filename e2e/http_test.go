package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// plain is what curl and browsers are: HTTP/1.1, nothing known of RPC. Its
// connections are not kept, so that none outlives its test.
var plain = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// post sends a JSON request as curl does, with more headers as "Key: value".
func post(tb testing.TB, url, body string, headers ...string) (*http.Response, string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		key, value, _ := strings.Cut(h, ": ")
		req.Header.Set(key, value)
	}
	return do(tb, req)
}

// do returns the response with its whole body.
func do(tb testing.TB, req *http.Request) (*http.Response, string) {
	tb.Helper()
	res, err := plain.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return res, string(raw)
}
