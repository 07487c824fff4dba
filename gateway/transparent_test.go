package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
)

// Informational responses pass, with their headers and no others; the final
// response has its own.
func TestInformationalResponses(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ int, client *http.Client) {
		url := behind(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			for i := range 2 {
				w.Header().Set("Link", fmt.Sprintf("</%d>", i))
				w.WriteHeader(http.StatusEarlyHints)
			}
			w.Header().Del("Link")
			w.Header().Set("X-Answer", "final")
			_, _ = io.WriteString(w, "ok")
		})
		for _, path := range []string{repeatable, streaming} {
			var hints []string
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
					hints = append(hints, fmt.Sprint(code, header["Link"], len(header)))
					return nil
				},
			})
			res, err := client.Do(request(t, url+path, strings.NewReader("{}")).WithContext(ctx))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if want := []string{"103 [</0>] 1", "103 [</1>] 1"}; !slices.Equal(hints, want) {
				t.Errorf("%s: hints %v, want %v", path, hints, want)
			}
			if err != nil || string(got) != "ok" || res.Header.Get("X-Answer") != "final" || res.Header.Get("Link") != "" {
				t.Errorf("%s: got %q, %v, %v", path, got, res.Header, err)
			}
		}
	})
}

// A body that its caller offers with Expect: 100-continue is asked for only when
// the service asks for it.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	head := func(path string, length int) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: service\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", path, length)
	}
	t.Run("refused unread", func(t *testing.T) {
		t.Parallel()
		url := behind(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
		for path, length := range map[string]int{streaming: 5, repeatable: 2 << 20} {
			if answer := send(t, url, head(path, length)); !strings.HasPrefix(answer, "HTTP/1.1 401") {
				t.Errorf("%s: caller saw\n%s", path, answer)
			}
		}
	})
	t.Run("asked for", func(t *testing.T) {
		t.Parallel()
		url := behind(t, func(w http.ResponseWriter, r *http.Request) {
			raw, _ := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%s %s", r.Header["Expect"], raw)
		})
		for path, want := range map[string]string{streaming: "[100-continue] hello", repeatable: "[] hello"} {
			answer := send(t, url, head(path, 5)+"hello")
			if !strings.HasPrefix(answer, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200") || !strings.Contains(answer, want) {
				t.Errorf("%s: caller saw\n%s", path, answer)
			}
		}
	})
}

// A service may answer before the request has ended, whether it is a stream or
// a unary request too large to be kept; the answer is whole.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	answer := bytes.Repeat([]byte("early "), 64<<10)
	both(t, func(t *testing.T, _ int, client *http.Client) {
		url := behind(t, func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex()
			_, _ = io.ReadFull(r.Body, make([]byte, 1<<20))
			_, _ = w.Write(answer)
		})
		for _, path := range []string{repeatable, streaming} {
			body, half := io.Pipe()
			go func() { _, _ = half.Write(make([]byte, 1<<20+1)) }()
			res, err := client.Do(request(t, url+path, body))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			if err != nil || !bytes.Equal(got, answer) {
				t.Errorf("%s: got %d bytes, %v; want %d", path, len(got), err, len(answer))
			}
			_ = half.Close() // only now
			_ = res.Body.Close()
		}
	})
}

// A request whose body breaks off is its caller's mistake: it is told so, and no
// number of such callers makes the service seem down.
func TestBrokenRequest(t *testing.T) {
	t.Parallel()
	url := behind(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	head := "POST PATH HTTP/1.1\r\nHost: service\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
	large := fmt.Sprintf("%x\r\n%s\r\n", 1<<20+1, make([]byte, 1<<20+1))
	for range 10 {
		for path, body := range map[string]string{streaming: "5\r\nhello\r\n", repeatable: large} {
			answer := send(t, url, strings.Replace(head, "PATH", path, 1)+body+"no chunk\r\n")
			if !strings.HasPrefix(answer, "HTTP/1.1 400") || !strings.Contains(answer, "invalid_argument") {
				t.Errorf("%s: caller saw\n%s", path, answer)
			}
		}
	}
	for _, path := range []string{streaming, repeatable} {
		res, err := client(t, 1).Do(request(t, url+path, strings.NewReader("{}")))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s: got %d after broken requests of others", path, res.StatusCode)
		}
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ int, client *http.Client) {
		url := behind(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Method", r.Method)
			w.Header().Set("Content-Length", "5")
		})
		for _, path := range []string{repeatable, streaming} {
			req := request(t, url+path, nil)
			req.Method = http.MethodHead
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || len(got) > 0 || res.ContentLength != 5 || res.Header.Get("X-Method") != http.MethodHead {
				t.Errorf("%s: got %q, length %d, %v, %v", path, got, res.ContentLength, res.Header, err)
			}
		}
	})
}

// A trailer that a service announces and does not send leaves the caller's connection as it is.
func TestAnnouncedTrailer(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ int, client *http.Client) {
		url := behind(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Trailer", "X-After")
			_, _ = io.WriteString(w, "ok")
		})
		for _, path := range []string{repeatable, streaming} {
			res, err := client.Do(request(t, url+path, strings.NewReader("{}")))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || string(got) != "ok" || len(res.Trailer["X-After"]) > 0 {
				t.Errorf("%s: got %q, %v, %v", path, got, res.Trailer, err)
			}
		}
	})
}

// A blank in a query, which HTTP/2 takes, does not end the target of the request to a service over HTTP/1.1.
func TestBlankInQuery(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1", "2"} {
		seen := make(chan string, 1)
		service := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == get.path {
				seen <- r.RequestURI
			}
		}))
		caller := dial2(t, serve(t, newGateway(t, "http://"+service+";http="+version)))
		id := caller.headers(t, true, get.path+"?a b HTTP/1.1", "content-type: application/json")
		if got := caller.status(t, id); got != "200" {
			t.Fatalf("http=%s: status %q, want 200", version, got)
		}
		if got, want := <-seen, get.path+"?a%20b%20HTTP/1.1"; got != want {
			t.Errorf("http=%s: the service saw %q, want %q", version, got, want)
		}
	}
}
