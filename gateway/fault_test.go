package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// fault is what a service does wrong.
type fault struct {
	name string
	// endpoint is where nobody serves; empty: a faulty service does.
	endpoint func(tb testing.TB) (url string)
	// accept is done to every connection, in place of serving it.
	accept func(conn net.Conn)
	// act is done to every request that was read whole; early, to its head alone.
	act   func(x *exchange)
	early bool
	// times is how often; from then on the service answers. Default: always.
	times int
	// options of the route, such as ";try-timeout=50ms".
	options string
}

// faulty is a service that speaks raw HTTP/1.1 and raw HTTP/2 on one listener,
// and knows which requests it has received whole. It answers health checks, and
// does not count them.
type faulty struct {
	fault
	addr    string
	healthy atomic.Bool
	left    chan struct{} // a caller ended a request

	mu           sync.Mutex
	spared       int // requests to come that are answered, and not counted
	begun, whole int
}

func newFaulty(tb testing.TB, f fault) *faulty {
	tb.Helper()
	s := &faulty{fault: f, left: make(chan struct{}, 16)}
	serveConn := s.serve
	if f.accept != nil {
		serveConn = f.accept
	}
	s.addr, _ = acceptRaw(tb, serveConn)
	return s
}

// acceptRaw accepts connections until the test ends, and closes each when it has been served. cut closes those that there are.
func acceptRaw(tb testing.TB, serve func(net.Conn)) (addr string, cut func()) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var (
		all  sync.WaitGroup
		open sync.Map // a set
		over = make(chan struct{})
	)
	go func() {
		defer close(over)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			open.Store(conn, nil)
			all.Go(func() {
				defer open.Delete(conn)
				defer func() { _ = conn.Close() }()
				serve(conn)
			})
		}
	}()
	cut = func() {
		open.Range(func(conn, _ any) bool {
			_ = conn.(net.Conn).Close()
			return true
		})
	}
	tb.Cleanup(func() {
		_ = ln.Close()
		<-over
		cut()
		all.Wait()
	})
	return ln.Addr().String(), cut
}

// seen is how many requests were begun, and how many of them came whole.
func (s *faulty) seen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("%d/%d", s.begun, s.whole)
}

// leave tells that a caller left, to whoever wants to know.
func (s *faulty) leave() {
	select {
	case s.left <- struct{}{}:
	default:
	}
}

// awaitLeft waits until a caller has ended a request.
func (s *faulty) awaitLeft(tb testing.TB) {
	tb.Helper()
	select {
	case <-s.left:
	case <-time.After(30 * time.Second):
		tb.Fatalf("no caller has left; the service saw %s requests begun/whole", s.seen())
	}
}

// spare has the next request be answered.
func (s *faulty) spare() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spared++
}

// begin counts a request, and returns its number; 0: it is answered.
func (s *faulty) begin() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spared > 0 {
		s.spared--
		return 0
	}
	s.begun++
	return s.begun
}

// finish counts a request that came whole.
func (s *faulty) finish(x *exchange) {
	if x.number > 0 {
		s.mu.Lock()
		s.whole++
		s.mu.Unlock()
	}
	s.do(x)
}

func (s *faulty) do(x *exchange) {
	if s.act == nil || x.number == 0 || s.times > 0 && x.number > s.times {
		x.ok()
		return
	}
	s.act(x)
}

func (s *faulty) serve(conn net.Conn) {
	reader := bufio.NewReader(conn)
	if start, _ := reader.Peek(3); string(start) == "PRI" {
		s.serve2(conn, reader)
		return
	}
	for {
		req, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		if strings.HasPrefix(req.URL.Path, "/grpc.health.v1.Health/") {
			_, _ = io.WriteString(conn, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
			continue
		}
		x := &exchange{conn: conn, contentType: req.Header.Get("Content-Type"), number: s.begin()}
		if s.early {
			s.do(x)
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		s.finish(x)
		if x.closed {
			return
		}
		if x.silent {
			_, _ = reader.Peek(1) // until the caller leaves
			s.leave()
			return
		}
	}
}

// roomy is a window of HTTP/2 with room for every request.
const roomy = 1 << 30

// greet2 reads what a client over HTTP/2 says first, and answers with settings; nil: it does not come.
func greet2(conn net.Conn, reader io.Reader, settings ...http2.Setting) *http2.Framer {
	if _, err := io.ReadFull(reader, make([]byte, len(http2.ClientPreface))); err != nil {
		return nil
	}
	framer := http2.NewFramer(conn, reader)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = framer.WriteSettings(settings...)
	return framer
}

// serve2 speaks HTTP/2, frame by frame.
func (s *faulty) serve2(conn net.Conn, reader io.Reader) {
	framer := greet2(conn, reader, http2.Setting{ID: http2.SettingInitialWindowSize, Val: roomy})
	if framer == nil {
		return
	}
	_ = framer.WriteWindowUpdate(0, roomy)
	calls := map[uint32]*exchange{}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			for _, x := range calls {
				if x.silent {
					s.leave()
				}
			}
			return
		}
		id := frame.Header().StreamID
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				_ = framer.WritePing(true, frame.Data)
			}
		case *http2.RSTStreamFrame:
			if x := calls[id]; x != nil && x.silent {
				s.leave()
			}
			delete(calls, id)
		case *http2.MetaHeadersFrame:
			x := &exchange{conn: conn, framer: framer, id: id}
			for _, field := range frame.RegularFields() {
				if field.Name == "content-type" {
					x.contentType = field.Value
				}
			}
			if strings.HasPrefix(frame.PseudoValue("path"), "/grpc.health.v1.Health/") {
				if !strings.HasPrefix(x.contentType, "application/grpc") {
					x.head(http.StatusNotFound, 0)
					continue
				}
				x.health(s.healthy.Load())
				continue
			}
			x.number = s.begin()
			if s.early && x.number > 0 && (s.times == 0 || x.number <= s.times) {
				s.do(x)
				continue // and what follows of it is nobody's
			}
			calls[id] = x
			if frame.StreamEnded() {
				s.finish(x)
			}
		case *http2.DataFrame:
			if x := calls[id]; x != nil && frame.StreamEnded() {
				s.finish(x)
			}
		}
	}
}

// exchange is one request at a faulty service, and what can be done to it.
type exchange struct {
	conn        net.Conn
	framer      *http2.Framer // nil on HTTP/1.1
	id          uint32        // of the HTTP/2 stream
	contentType string
	number      int  // of this request at its service, from 1
	chunked     bool // the answer, on HTTP/1.1
	closed      bool
	silent      bool // never answered
}

// unknown is the length of a body that ends with end.
const unknown = -1

// head sends a status and headers ("key: value"). On HTTP/1.1 a body of a known
// length needs no end; on HTTP/2 only a length of 0 ends the stream.
func (x *exchange) head(status, length int, header ...string) {
	if x.framer != nil {
		x.fields(length == 0, append([]string{":status: " + strconv.Itoa(status)}, header...))
		return
	}
	framing := "Content-Length: " + strconv.Itoa(length)
	if x.chunked = length == unknown; x.chunked {
		framing = "Transfer-Encoding: chunked"
	}
	_, _ = fmt.Fprintf(x.conn, "HTTP/1.1 %d %s\r\n%s\r\n\r\n", status, http.StatusText(status), strings.Join(append(header, framing), "\r\n"))
}

func (x *exchange) fields(end bool, fields []string) {
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	for _, field := range fields {
		key, value, _ := strings.Cut(field, ": ")
		_ = encoder.WriteField(hpack.HeaderField{Name: strings.ToLower(key), Value: value})
	}
	_ = x.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: x.id, BlockFragment: []byte(block.String()), EndStream: end, EndHeaders: true})
}

func (x *exchange) data(data string) {
	switch {
	case x.framer != nil:
		_ = x.framer.WriteData(x.id, false, []byte(data))
	case x.chunked:
		_, _ = fmt.Fprintf(x.conn, "%x\r\n%s\r\n", len(data), data)
	default:
		_, _ = io.WriteString(x.conn, data)
	}
}

// end ends a body, with trailers.
func (x *exchange) end(trailer ...string) {
	switch {
	case x.framer == nil && x.chunked:
		_, _ = io.WriteString(x.conn, strings.Join(append([]string{"0"}, trailer...), "\r\n")+"\r\n\r\n")
	case x.framer != nil && len(trailer) > 0:
		x.fields(true, trailer)
	case x.framer != nil:
		_ = x.framer.WriteData(x.id, true, nil)
	}
}

// close ends the connection; reset does so without a word.
func (x *exchange) close() { x.closed = true; _ = x.conn.Close() }
func (x *exchange) reset() { reset(x.conn); x.close() }

func reset(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) }

func (x *exchange) health(serving bool) {
	status := map[bool]string{true: "\x01", false: "\x02"}[serving]
	x.head(http.StatusOK, unknown, "content-type: application/grpc")
	x.data("\x00\x00\x00\x00\x02\x08" + status)
	x.end("grpc-status: 0")
}
