package h2_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"holdline/internal/wire/h2"
	"holdline/internal/wire/wiretest"
)

// listen runs a server until the test ends.
func listen(tb testing.TB, s *h2.Server, handler http.HandlerFunc) (addr string) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var conns sync.WaitGroup
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer func() { _ = c.Close() }()
				_ = s.Serve(context.Background(), c, handler, nil)
			})
		}
	}()
	tb.Cleanup(func() {
		_ = ln.Close()
		<-ended
		s.Shutdown()
		conns.Wait()
	})
	return ln.Addr().String()
}

// newServer is a server with limits that no test meets by chance.
func newServer() *h2.Server {
	return &h2.Server{
		MaxStreams: 100, MaxHeaderBytes: 64 << 10, HeaderTimeout: time.Minute, IdleTimeout: time.Minute, PingTimeout: time.Minute,
		Log: slog.New(slog.DiscardHandler),
	}
}

// stock is a server of net/http.
func stock(tb testing.TB, handler http.HandlerFunc) (addr string) {
	tb.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.Start()
	tb.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// stockClient is one of net/http.
func stockClient(tb testing.TB) *http.Client {
	tb.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols), ExpectContinueTimeout: time.Minute}
	transport.Protocols.SetUnencryptedHTTP2(true)
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// told is all that a caller sees of a response but the date.
func told(res *http.Response, err error) string {
	if err != nil {
		return "no response: " + kind(err)
	}
	defer func() { _ = res.Body.Close() }()
	dated := res.Header.Get("Date") != ""
	res.Header.Del("Date")
	body, err := io.ReadAll(res.Body)
	sum := fmt.Sprintf("%d bytes", len(body))
	if len(body) < 300 {
		sum = string(body)
	}
	return fmt.Sprintf("%s %s dated=%t %s length=%d body=%q err=%s trailers=%s", res.Proto, res.Status, dated, sorted(res.Header), res.ContentLength, sum, kind(err), sorted(res.Trailer))
}

func sorted(header http.Header) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(header)) {
		fmt.Fprintf(&b, "%s: %q; ", key, header[key])
	}
	return b.String()
}

// kind is an error without what differs between two runs.
func kind(err error) string {
	var reset http2.StreamError
	switch {
	case err == nil:
		return "none"
	case errors.As(err, &reset):
		return "reset " + reset.Code.String()
	}
	text := err.Error()
	if at := strings.Index(text, "stream error:"); at >= 0 {
		text = text[at:]
	}
	return strings.TrimRight(text, "0123456789")
}

// A handler says to the caller what it says over net/http's server, and hears the same of it.
func TestAsNetHTTP(t *testing.T) {
	t.Parallel()
	say := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
	}
	status := func(code int, body string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Add(header[i], header[i+1])
			}
			w.WriteHeader(code)
			w.Header().Set("Late", "it is not sent")
			if _, err := io.WriteString(w, body); err != nil && body != "" {
				panic(err)
			}
		}
	}
	flush := func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		method  string // GET
		path    string
		header  []string
		body    io.Reader
	}{
		"nothing":                  {handler: func(http.ResponseWriter, *http.Request) {}},
		"text":                     {handler: say("hello")},
		"HTML":                     {handler: say("<html>hello")},
		"a small body":             {handler: say(strings.Repeat("x", 4096))},
		"one that is hardly small": {handler: say(strings.Repeat("x", 4097))},
		"a large body":             {handler: say(strings.Repeat("x", 3<<20))},
		"HEAD":                     {handler: say("hello"), method: http.MethodHead},
		"HEAD without a body":      {handler: func(http.ResponseWriter, *http.Request) {}, method: http.MethodHead},
		"HEAD, with a length":      {handler: status(200, "", "Content-Length", "5"), method: http.MethodHead},
		"404":                      {handler: status(404, "none", "Content-Type", "text/odd", "Odd", "a", "Odd", "b")},
		"204":                      {handler: status(204, "")},
		"304 with a length":        {handler: status(304, "", "Content-Length", "5")},
		"a length":                 {handler: status(200, "hello", "Content-Length", "5", "Content-Type", "a/b")},
		"a length that is none":    {handler: status(200, "hello", "Content-Length", "many", "Content-Type", "a/b")},
		"an encoding":              {handler: status(200, "hello", "Content-Encoding", "odd")},
		"a header of HTTP/1.1":     {handler: status(200, "hello", "Connection", "Odd")},
		"a header that is none":    {handler: status(200, "hello", "O d", "x", "Even", "a\nb")},
		"Latin-1":                  {handler: status(200, "hello", "Odd", "caf\xe9")},
		"the last call":            {handler: status(200, "hello", "Connection", "close")},
		"no headers of the server": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Date"], w.Header()["Content-Type"], w.Header()["Content-Length"] = nil, nil, nil
			_, _ = io.WriteString(w, "hello")
		}},
		"nothing but a head": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"], w.Header()["Content-Length"], w.Header()["Grpc-Status"] = nil, nil, []string{"5"}
			w.WriteHeader(http.StatusOK)
		}},
		"two parts": {handler: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "one")
			flush(w)
			_, _ = io.WriteString(w, "two")
		}},
		"a head, flushed": {handler: func(w http.ResponseWriter, _ *http.Request) { flush(w) }},
		"hints": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "x")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusOK)
		}},
		"trailers that were announced": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "One, Two, Content-Length")
			w.Header().Add("Trailer", "Three")
			_, _ = io.WriteString(w, "hello")
			w.Header().Set("One", "1")
			w.Header().Set("Three", "3")
			w.Header().Set("Four", "4")
		}},
		"trailers without a body": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Length"] = nil // net/http says 0, for which nginx drops the trailers
			w.Header().Set("Trailer", "One")
			w.WriteHeader(http.StatusOK)
			w.Header().Set("One", "1")
		}},
		"trailers that did not come": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "One")
			w.WriteHeader(http.StatusOK)
		}},
		"trailers with a prefix": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"], w.Header()["Content-Length"] = []string{"a/b"}, nil
			w.WriteHeader(http.StatusOK)
			_, _ = io.WriteString(w, "hello")
			clear(w.Header())
			w.Header().Set(http.TrailerPrefix+"One", "1")
		}},
		"broken off": {handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		"broken off after the head": {handler: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "one")
			flush(w)
			panic("it does so")
		}},
		"the request": {handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Date"] = nil
			_, _ = fmt.Fprintf(w, "%s %s %q %q %q %q %d %v %s %s", r.Method, r.URL.Path, r.URL.RawQuery, r.URL.RawPath, r.RequestURI, r.Host, r.ContentLength, r.TLS == nil, r.Proto, sorted(r.Header))
		}, path: "/a/b%2fc//d?e=f", header: []string{"Cookie", "a=b", "Cookie", "c=d", "Odd", "x", "Te", "trailers", "User-Agent", ""}},
		"a request with a body": {handler: func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			n, again := r.Body.Read(make([]byte, 1))
			_, _ = fmt.Fprintf(w, "%d %q %v %d %v %s", r.ContentLength, body, err, n, again, sorted(r.Trailer))
		}, method: http.MethodPost, body: strings.NewReader("hello")},
		"a request of unknown length": {handler: func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprintf(w, "%d %d %v", r.ContentLength, n, err)
		}, method: http.MethodPut, body: io.MultiReader(strings.NewReader(strings.Repeat("x", 4<<20)))},
		"a request that is not read": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
		}, method: http.MethodPost, body: strings.NewReader("hello")},
		"a request that waits": {handler: func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%q %v %q", body, err, r.Header["Expect"])
		}, method: http.MethodPost, body: strings.NewReader("hello"), header: []string{"Expect", "100-continue"}},
		"a request that waits for nothing": {handler: status(http.StatusExpectationFailed, "no"), method: http.MethodPost, body: strings.NewReader("hello"), header: []string{"Expect", "100-continue"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			var body []byte
			if c.body != nil {
				body, _ = io.ReadAll(c.body)
			}
			ask := func(addr string) string {
				req, _ := http.NewRequestWithContext(t.Context(), c.method, "http://"+addr+c.path, nil)
				if c.body != nil {
					req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
					if c.method == http.MethodPut {
						req.ContentLength = -1
					}
				}
				req.Host = "a.example"
				for i := 0; i < len(c.header); i += 2 {
					req.Header.Add(c.header[i], c.header[i+1])
				}
				return told(stockClient(t).Do(req))
			}
			if got, want := ask(listen(t, newServer(), c.handler)), ask(stock(t, c.handler)); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// client is a client that writes its frames itself.
type client struct {
	raw
	decoder *hpack.Decoder
}

func dial(tb testing.TB, addr string, settings ...http2.Setting) *client {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, http2.ClientPreface)
	c := &client{raw{Framer: http2.NewFramer(conn, conn), Conn: conn, TB: tb}, hpack.NewDecoder(4096, nil)}
	c.hpack = hpack.NewEncoder(&c.block)
	_ = c.WriteSettings(settings...)
	return c
}

// call opens a stream.
func (c *client) call(id uint32, end bool, more ...string) {
	block := c.fields(append([]string{":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/a"}, more...)...)
	part := block[:min(len(block), 16<<10)]
	block = block[len(part):]
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: part, EndHeaders: len(block) == 0, EndStream: end})
	for len(block) > 0 {
		part = block[:min(len(block), 16<<10)]
		block = block[len(part):]
		_ = c.WriteContinuation(id, len(block) == 0, part)
	}
}

// next is what comes of a stream next, or of the connection: a kind, and what is of interest of it.
func (c *client) next(id uint32) string {
	for {
		frame, err := c.ReadFrame()
		switch f := frame.(type) {
		case nil:
			return "end: " + err.Error()
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				return "reset " + f.ErrCode.String()
			}
		case *http2.GoAwayFrame:
			return fmt.Sprintf("go away %d %s", f.LastStreamID, f.ErrCode)
		case *http2.HeadersFrame:
			fields, _ := c.decoder.DecodeFull(f.HeaderBlockFragment())
			if f.StreamID == id {
				return "status " + fields[0].Value
			}
		case *http2.DataFrame:
			if f.StreamID == id {
				return fmt.Sprintf("%d bytes, end=%t", len(f.Data()), f.StreamEnded())
			}
		case *http2.PingFrame:
			if f.IsAck() == (id == 0) {
				return "ping"
			}
		}
	}
}

func (c *client) wants(id uint32, what ...string) {
	c.Helper()
	for _, want := range what {
		if got := c.next(id); got != want {
			c.Fatalf("got %q, want %q", got, want)
		}
	}
}

// A call that cannot be read, or taken, is refused alone.
func TestRefusesCalls(t *testing.T) {
	t.Parallel()
	entered, block := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(block) })
	server := newServer()
	server.MaxStreams = 1
	c := dial(t, listen(t, server, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Block") != "" {
			close(entered)
			<-block
		}
		_, _ = io.Copy(io.Discard, r.Body) // else there may be an answer before the trailers have come
	}))
	c.call(1, true, "odd", "a\x00b")
	c.wants(1, "reset PROTOCOL_ERROR")
	c.call(3, true, "connection", "close")
	c.wants(3, "status 400")
	c.call(5, true, "odd", strings.Repeat("x", 70<<10))
	c.wants(5, "status 431")
	c.call(7, true, "content-length", "5")
	c.wants(7, "reset PROTOCOL_ERROR")
	for i, odd := range [][2]string{
		{":method", "PO ST"}, {":method", "P\xd6ST"}, {":method", "POST /b HTTP/1.1"}, {":authority", "a b"}, {":authority", "a/b"}, {":authority", "user@a"}, {":authority", "caf\xe9"},
	} {
		wrong, id := dial(t, c.RemoteAddr().String()), uint32(2*i+1)
		fields := []string{":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/a"}
		fields[slices.Index(fields, odd[0])+1] = odd[1]
		_ = wrong.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true, BlockFragment: wrong.fields(fields...)})
		wrong.wants(id, "reset PROTOCOL_ERROR")
	}
	for i, name := range []string{":path", "te", "content-length", "host"} {
		wrong, id := dial(t, c.RemoteAddr().String()), uint32(2*i+1)
		wrong.call(id, false, "trailer", name)
		_ = wrong.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true, BlockFragment: wrong.fields(name, "5")})
		wrong.wants(id, "reset PROTOCOL_ERROR")
	}
	for i, length := range []string{"abc", "-1", "+5", "5 ", "0x5", "", "9223372036854775808"} {
		wrong := dial(t, c.RemoteAddr().String())
		wrong.call(uint32(2*i+1), false, "content-length", length)
		wrong.wants(uint32(2*i+1), "reset PROTOCOL_ERROR")
	}
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 9, EndHeaders: true, EndStream: true, BlockFragment: c.fields(
		":method", "POST", ":scheme", "http", ":path", "/a", ":authority", "", "block", "1")}) // as grpc-go may write it
	c.call(11, true)
	c.wants(11, "reset REFUSED_STREAM")
	<-entered // else it may never run
	_ = c.WriteRSTStream(9, http2.ErrCodeCancel)
	c.call(13, true) // the handler of the other still runs
	c.wants(13, "reset REFUSED_STREAM")
}

// A server that leaves names the last call that it serves, and ends with it.
func TestLeaves(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	server := newServer()
	c := dial(t, listen(t, server, func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-leave
	}))
	c.call(1, true)
	<-entered
	server.Shutdown()
	c.wants(1, "go away 1 NO_ERROR")
	c.call(3, true)
	_ = c.WritePing(false, [8]byte{})
	c.wants(0, "ping") // it has read that
	close(leave)
	c.wants(1, "status 200", "end: EOF")
}

// Responses obey the windows of their stream and of the connection, and go on when there is credit.
func TestObeysWindows(t *testing.T) {
	t.Parallel()
	c := dial(t, listen(t, newServer(), func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 70_000)) }),
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	c.call(1, true)
	c.wants(1, "status 200", "10 bytes, end=false")
	_ = c.WriteWindowUpdate(1, 65_535)
	c.wants(1, "16384 bytes, end=false", "16384 bytes, end=false", "16384 bytes, end=false", "16373 bytes, end=false") // of the connection
	_ = c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10 + 70_000 - 65_545})
	_ = c.WriteWindowUpdate(0, 5_000)
	c.wants(1, "4465 bytes, end=false", "0 bytes, end=true")
}

// One whose body nobody reads stops no other call of its connection; and what was not read is given back.
func TestUnreadBodies(t *testing.T) {
	t.Parallel()
	leave := make(chan struct{})
	c := dial(t, listen(t, newServer(), func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Block") != "" {
			<-leave
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	fill := func(id uint32, bytes int) {
		for ; bytes > 0; bytes -= 16 << 10 {
			_ = c.WriteData(id, false, make([]byte, 16<<10))
		}
	}
	c.call(1, false, "block", "1")
	fill(1, 512<<10)
	c.call(3, false)
	fill(3, 512<<10)
	_ = c.WriteData(3, true, nil)
	c.wants(3, "status 200")
	close(leave)
	_ = c.WriteRSTStream(1, http2.ErrCodeCancel)
	for id := uint32(5); id < 25; id += 2 {
		c.call(id, false)
		fill(id, 512<<10)
		_ = c.WriteData(id, true, nil)
		c.wants(id, "status 200")
	}
}

// A handler hears that its caller has left, or that the connection has ended.
func TestCallersLeave(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*client){
		"reset": func(c *client) { _ = c.WriteRSTStream(1, http2.ErrCodeCancel) },
		"end":   func(c *client) { _ = c.Close() },
		"wrong": func(c *client) { _ = c.WriteRawFrame(http2.FrameContinuation, 0, 1, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entered, left := make(chan struct{}), make(chan error, 2)
			c := dial(t, listen(t, newServer(), func(w http.ResponseWriter, r *http.Request) {
				close(entered)
				<-r.Context().Done()
				_, err := io.Copy(io.Discard, r.Body)
				left <- err
				for err = nil; err == nil; {
					_, err = w.Write(make([]byte, 10_000))
				}
				left <- err
			}))
			c.call(1, false)
			<-entered
			leave(c)
			for range 2 {
				if err := <-left; err == nil {
					t.Error("the handler hears of no error")
				}
			}
		})
	}
}

// Who asks and does not read, keeps no more than a few answers of us.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	var ran atomic.Int64
	c := dial(t, listen(t, newServer(), func(w http.ResponseWriter, _ *http.Request) {
		ran.Add(1)
		w.Header().Set("Odd", rand.Text()+strings.Repeat("x", 2000))
		w.WriteHeader(http.StatusNoContent)
	}))
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	var err error
	for id := uint32(1); id < 1_000_000 && err == nil; id += 2 {
		err = c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true, BlockFragment: c.fields(":method", "POST", ":scheme", "http", ":path", "/a")})
	}
	if got := ran.Load(); got > 50_000 {
		t.Errorf("%d handlers ran, want a few", got)
	}
	if _, err := io.Copy(io.Discard, c.Conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection goes on")
	}
}

// Deadlines of a handler end a read, and a response, also one that waits.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	heard := make(chan error, 2)
	c := dial(t, listen(t, newServer(), func(w http.ResponseWriter, r *http.Request) {
		controller := http.NewResponseController(w)
		_ = controller.SetReadDeadline(time.Now().Add(time.Hour))
		_ = controller.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := io.Copy(io.Discard, r.Body)
		heard <- err
		time.AfterFunc(time.Millisecond, func() { _ = controller.SetWriteDeadline(time.Now()) })
		for err = nil; err == nil; {
			_, err = w.Write(make([]byte, 10_000))
		}
		heard <- err
	}))
	c.call(1, false)
	for range 2 {
		if err := <-heard; err == nil {
			t.Error("the handler hears of no error")
		}
	}
	for got := ""; !strings.HasPrefix(got, "reset"); {
		if got = c.next(1); strings.HasPrefix(got, "end") {
			t.Fatal(got)
		}
	}
}

// With the response, a read of the request ends.
func TestWriteDeadlineEndsRead(t *testing.T) {
	t.Parallel()
	heard := make(chan error, 1)
	c := dial(t, listen(t, newServer(), func(w http.ResponseWriter, r *http.Request) {
		time.AfterFunc(time.Millisecond, func() { _ = http.NewResponseController(w).SetWriteDeadline(time.Now()) })
		_, err := io.Copy(io.Discard, r.Body)
		heard <- err
	}))
	c.call(1, false)
	if err := <-heard; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the handler hears of %v", err)
	}
}

// greeted is a client that has had an answer. It may not be the first one: on a busy machine a client is late with its greeting, too.
func greeted(tb testing.TB, addr string) *client {
	tb.Helper()
	got := ""
	for range 100 {
		c := dial(tb, addr)
		c.call(1, true)
		if got = c.next(1); got == "status 200" {
			return c
		}
		_ = c.Close()
	}
	tb.Fatalf("of a hundred clients that greet none has an answer: the last one got %q", got)
	return nil
}

// Those who are slow with a block of headers, or say nothing, are cut off.
func TestSilentClients(t *testing.T) {
	t.Parallel()
	server := newServer()
	server.HeaderTimeout = 50 * time.Millisecond
	addr := listen(t, server, func(http.ResponseWriter, *http.Request) {})
	for name, half := range map[string]func(c *client){
		"a block": func(c *client) {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: c.fields(":method", "GET")})
		},
		"its frame": func(c *client) { _, _ = c.Write([]byte{0, 0, 20, byte(http2.FrameHeaders), 4, 0, 0, 0, 3, 0x82}) },
	} {
		c := greeted(t, addr)
		half(c)
		if got := c.next(3); !strings.HasPrefix(got, "end") {
			t.Errorf("after half of %s: got %q, want the end", name, got)
		}
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("one who does not greet: %v", err)
	}
}

// Bodies of any size come back, with their trailers, from many callers at once.
func TestServerEchoes(t *testing.T) {
	t.Parallel()
	url := "http://" + listen(t, newServer(), wiretest.Echo)
	transport := newTransport()
	t.Cleanup(transport.CloseIdleConnections)
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, size := range wiretest.Sizes {
		for _, known := range []bool{true, false} {
			wg.Go(func() { wiretest.TestEcho(t, transport, url, size, known) })
		}
	}
}
