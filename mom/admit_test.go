package mom_test

import (
	"net/http"
	"strings"
	"testing"
)

// A MOM without a secret takes a gateway's word for an operator from its own machine, and not
// from who speaks through that machine. Without the word nobody there is an operator either.
func TestWhoIsAnOperator(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	const word = "Holdline-Operator: 192.0.2.7"
	for _, c := range []struct {
		name    string
		headers []string
		want    int
	}{
		{"a gateway here", []string{word}, http.StatusOK},
		{"somebody here", nil, http.StatusForbidden},
		{"a page here", []string{word, "Origin: https://page.example"}, http.StatusForbidden},
		{"a page whose name means this machine", []string{word, "Host: page.example", "Origin: http://page.example"}, http.StatusForbidden},
		{"somebody through a proxy here", []string{word, "X-Forwarded-For: 192.0.2.7"}, http.StatusForbidden},
	} {
		for _, path := range []string{"/mom.v1.QueueService/ListQueues", "/mom.v1.TaskService/ListTasks"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.base+path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			for _, h := range c.headers {
				key, value, _ := strings.Cut(h, ": ")
				if key == "Host" {
					req.Host = value
				} else {
					req.Header.Set(key, value)
				}
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode != c.want {
				t.Errorf("%s asks for %s: got %d, want %d", c.name, path, res.StatusCode, c.want)
			}
		}
	}
}
