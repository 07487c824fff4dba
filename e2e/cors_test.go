package e2e

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"holdline/internal/stack"
)

// vain is a service that says of CORS what it likes, and tells what it was sent.
func vain(t *testing.T) (url string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://other.example")
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.Header().Set("Access-Control-Expose-Headers", "X-Nothing")
		w.Header().Set("Vary", "Accept")
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Seen", strings.Join([]string{r.Header.Get("Authorization"), r.Header.Get("X-Api-Key"), r.Header.Get("Traceparent")}, "|"))
		w.Header().Set("Trailer-X-Cost", "3")
		_, _ = w.Write([]byte("{}"))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// From allowed origins all headers may come, and all of the response's may be read;
// others get nothing. Nobody may send credentials, whatever the service says.
func TestCORS(t *testing.T) {
	t.Parallel()
	const page = "https://app.example"
	named := up(t, stack.Config{CORSOrigins: []string{page}, Routes: []string{"vain.v1.Vain=" + vain(t)}})
	anyone := up(t, stack.Config{CORSOrigins: []string{"*"}, Routes: []string{"vain.v1.Vain=" + vain(t)}})
	ask := func(s *stack.Stack, method, path, origin string, headers ...string) http.Header {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Gateway+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Origin", origin)
		for _, h := range headers {
			key, value, _ := strings.Cut(h, ": ")
			req.Header.Set(key, value)
		}
		res, _ := do(t, req)
		return res.Header
	}
	for _, c := range []struct {
		s            *stack.Stack
		origin, want string
	}{{named, page, page}, {named, "https://evil.example", ""}, {named, "null", ""}, {anyone, "https://evil.example", "*"}} {
		const wish = "authorization,content-type,idempotency-key,traceparent,x-anything,x-api-key"
		preflight := ask(c.s, http.MethodOptions, "/vain.v1.Vain/Tell", c.origin,
			"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: "+wish)
		granted := map[bool]string{true: wish}[c.want != ""]
		if origin, headers := preflight.Get("Access-Control-Allow-Origin"), preflight.Get("Access-Control-Allow-Headers"); origin != c.want || headers != granted {
			t.Errorf("preflight of %s: %q may send %q, want %q and %q", c.origin, origin, headers, c.want, granted)
		}
		for path, wants := range map[string][]string{
			"/vain.v1.Vain/Tell":            {"X-Seen", "Trailer-X-Cost", "Holdline-Decision"},
			"/arithmetic.v1.SumService/Sum": {"Holdline-Task", "Location", "Retry-After", "Preference-Applied"},
			"/nobody.v1.Knows/It":           {"Content-Type"},
			"/v1/tasks":                     {"Content-Type"},
		} {
			got := ask(c.s, http.MethodPost, path, c.origin, "Holdline-Explain: 1", "Prefer: respond-async")
			if origin := got.Get("Access-Control-Allow-Origin"); origin != c.want {
				t.Errorf("%s from %s: %q may read it, want %q", path, c.origin, origin, c.want)
			}
			if got.Get("Access-Control-Allow-Credentials") != "" || !strings.Contains(strings.Join(got["Vary"], ","), "Origin") {
				t.Errorf("%s from %s: %v, want no credentials, and Vary", path, c.origin, got)
			}
			exposed := ", " + got.Get("Access-Control-Expose-Headers") + ","
			for _, want := range wants {
				if strings.Contains(exposed, ", "+want+",") != (c.want != "") {
					t.Errorf("%s from %s: exposes %s, want %s if it may be read", path, c.origin, exposed, want)
				}
			}
			if strings.Contains(exposed, "X-Nothing") {
				t.Errorf("%s from %s: exposes %s, as the service said", path, c.origin, exposed)
			}
		}
	}
}

// A page of an allowed origin, in a real browser, sends headers that the service knows,
// and reads those that it answers with.
func TestBrowserHeaders(t *testing.T) {
	t.Parallel()
	needBrowser(t)
	script := func(more string) string {
		return `const response = await fetch("http://GATEWAY/vain.v1.Vain/Tell", {
  method: "POST",
  headers: {"Content-Type": "application/json", "Authorization": "Bearer b", "X-Api-Key": "k", "traceparent": "00-1-2-01", "Holdline-Explain": "1"},
  body: "{}",` + more + `
});
return [response.headers.get("X-Seen"), response.headers.get("Trailer-X-Cost"), response.headers.has("Holdline-Decision")].join();`
	}
	const read, refused = "Bearer b|k|00-1-2-01,3,true", "TypeError: Failed to fetch"
	for name, c := range map[string]struct{ origin, more, want string }{
		"any origin":       {"*", "", read},
		"its origin":       {"", "", read},
		"another origin":   {"https://other.example", "", refused},
		"with credentials": {"*", `credentials: "include"`, refused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewUnstartedServer(nil)
			defer server.Close()
			if c.origin == "" {
				c.origin = "http://" + server.Listener.Addr().String()
			}
			s := up(t, stack.Config{CORSOrigins: []string{c.origin}, Routes: []string{"vain.v1.Vain=" + vain(t)}})
			page, result := scripted(strings.ReplaceAll(script(c.more), "GATEWAY", s.Gateway))
			server.Config.Handler = page
			server.Start()
			if got := visit(t, server.URL, result); got != c.want {
				t.Errorf("the page got %q, want %q", got, c.want)
			}
		})
	}
}
