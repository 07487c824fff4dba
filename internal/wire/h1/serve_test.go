package h1_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdline/internal/wire"
	"holdline/internal/wire/h1"
)

// serving has a server of ours serve a handler at an address. What is no plain request ends its connection.
func serving(tb testing.TB, handler http.Handler) (addr string, server *h1.Server) {
	tb.Helper()
	server = plainServer(func(*wire.Request) (*wire.Response, http.Handler) { return nil, nil })
	server.Handler = handler
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = ln.Close()
		server.Cut()
	})
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				caller := server.Meet(c)
				_ = caller.ServePlain()
				_ = caller.Close()
			}()
		}
	}()
	return ln.Addr().String(), server
}

// utter writes a body, or part of it. Who does not hear it is none of its business.
func utter(w io.Writer, words ...any) { _, _ = fmt.Fprint(w, words...) }

const ask = "POST /a/b HTTP/1.1\r\nHost: h\r\nColor: red\r\ncolor: blue\r\nContent-Length: 5\r\n\r\nhello"

// read reads a response as a client does, and those of 1xx before it.
func read(r *bufio.Reader) string {
	said := ""
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return said + err.Error()
		}
		body, err := io.ReadAll(res.Body)
		res.Header.Del("Date")
		said += fmt.Sprintf("%s %d %v %v close=%t\n%v\n%d bytes, beginning with %.40q, %v\n%v\n",
			res.Status, res.ContentLength, res.TransferEncoding, res.Uncompressed, res.Close, res.Header, len(body), body, err, res.Trailer)
		if res.StatusCode >= http.StatusOK {
			return said
		}
	}
}

// Handlers say what they say through net/http, and see the same of a request.
func TestHandlersAreServedAsByNetHTTP(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"nothing": func(http.ResponseWriter, *http.Request) {},
		"what it reads": func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			utter(w, string(body), err, r.Method, r.URL, r.RequestURI, r.Proto, r.Host, r.Header, r.ContentLength, r.TransferEncoding, r.Close, r.Trailer)
		},
		"the end of it": func(w http.ResponseWriter, r *http.Request) {
			n, err := r.Body.Read(make([]byte, 9))
			utter(w, n, err)
		},
		"a status":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) },
		"an odd status": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(499); utter(w, "left") },
		"what was said": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "a/b")
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(http.StatusNotModified)
		},
		"no content of a length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "a/b")
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(http.StatusNoContent)
		},
		"no content": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent); utter(w, "no") },
		"a type": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "a/b")
			utter(w, "<html>")
		},
		"a type of its own": func(w http.ResponseWriter, _ *http.Request) { utter(w, "<html>") },
		"no type": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			utter(w, "<html>")
		},
		"packed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			utter(w, "<html>")
		},
		"a length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			utter(w, "hello")
		},
		"too little": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "6")
			utter(w, "hello")
		},
		"too much": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "4")
			_, err := fmt.Fprint(w, "hello")
			utter(w, err)
		},
		"an odd length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "x")
			utter(w, "hello")
		},
		"no length": func(w http.ResponseWriter, _ *http.Request) {
			utter(w, "hel")
			w.(http.Flusher).Flush()
			utter(w, "lo")
		},
		"only a flush": func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() },
		"much": func(w http.ResponseWriter, _ *http.Request) {
			for range 1000 {
				utter(w, strings.Repeat("a", 100))
			}
		},
		"much at once": func(w http.ResponseWriter, _ *http.Request) { utter(w, strings.Repeat("a", 100_000)) },
		"much of a length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			utter(w, strings.Repeat("a", 100_000))
		},
		"trailers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "Weight, Length")
			utter(w, "hello")
			w.Header().Set("Weight", "5")
		},
		"late trailers": func(w http.ResponseWriter, _ *http.Request) {
			utter(w, "hello")
			w.Header().Set(http.TrailerPrefix+"Cache-Control", "5")
		},
		"only trailers": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(http.TrailerPrefix+"Weight", "5") },
		"hints": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "a")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			utter(w, "hello")
		},
		"the end": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			utter(w, "hello")
		},
		"odd headers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["A b"] = []string{"c"}
			w.Header()["lower"] = []string{" a\r\nb ", ""}
			w.Header()["Two"] = []string{"1", "2"}
			utter(w, "hello")
		},
		"headers too late": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			w.Header().Set("Late", "a")
			w.WriteHeader(http.StatusTeapot)
			utter(w, "hello")
		},
		"broken off": func(w http.ResponseWriter, _ *http.Request) { utter(w, "hello"); panic(http.ErrAbortHandler) },
		"broken off later": func(w http.ResponseWriter, _ *http.Request) {
			utter(w, "hello")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"a panic": func(http.ResponseWriter, *http.Request) { panic("oh") },
		"full duplex": func(w http.ResponseWriter, r *http.Request) {
			utter(w, http.NewResponseController(w).EnableFullDuplex())
			_, _ = io.Copy(w, r.Body)
		},
		"deadlines": func(w http.ResponseWriter, _ *http.Request) {
			c := http.NewResponseController(w)
			utter(w, c.SetReadDeadline(time.Now().Add(time.Hour)), c.SetWriteDeadline(time.Now().Add(time.Hour)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said := map[bool]string{}
			for _, ours := range []bool{true, false} {
				var addr string
				if ours {
					addr, _ = serving(t, handler)
				} else {
					ln, err := net.Listen("tcp", "127.0.0.1:0")
					if err != nil {
						t.Fatal(err)
					}
					server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
					go func() { _ = server.Serve(ln) }()
					t.Cleanup(func() { _ = server.Close() })
					addr = ln.Addr().String()
				}
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.WriteString(c, ask+ask) // the second one is there at once
				reader := bufio.NewReader(c)
				said[ours] = read(reader) + read(reader)
				_ = c.Close()
			}
			if said[true] != said[false] {
				t.Errorf("got\n%s\nand by net/http\n%s", said[true], said[false])
			}
		})
	}
}

// A handler hears that its caller has left.
func TestHandlersHearOfCallersWhoLeave(t *testing.T) {
	t.Parallel()
	began, left := make(chan struct{}), make(chan error, 1)
	addr, _ := serving(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		left <- context.Cause(r.Context())
	}))
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, ask)
	<-began
	_ = c.Close()
	if err := <-left; err == nil {
		t.Error("it has not left")
	}
}

// A server that ends lets a handler end, and says that the connection ends with it.
func TestHandlersOfAServerThatEnds(t *testing.T) {
	t.Parallel()
	began, goOn := make(chan struct{}), make(chan struct{})
	addr, server := serving(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(began)
		<-goOn
		_, _ = io.WriteString(w, "hello")
	}))
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, ask)
	<-began
	server.Shutdown()
	close(goOn)
	if got := read(bufio.NewReader(c)); !strings.Contains(got, "hello") || !strings.Contains(got, "close=true") {
		t.Errorf("got %s, want an answer that is the last", got)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after it: %v, want the end", err)
	}
}
