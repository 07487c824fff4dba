package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"holdline/gateway"
	"holdline/internal/server"
	"holdline/internal/server/servertest"
	engine "holdline/internal/wire"
)

// cutting is a service that speaks one version of HTTP, and cuts one call somewhere. It knows how often that call began to run.
type cutting struct {
	addr  string
	major int

	mu   sync.Mutex
	cut  cutPoint
	runs int
	last int // bytes of the last request over HTTP/1.1
}

// cutPoint is where a service cuts a call, and how.
type cutPoint struct {
	name string
	// Over HTTP/1.1: so many bytes of the request are read, or, if all are, so many of the answer are written. -1: it is not cut there.
	read, written int
	reset         bool // else the connection is closed in order
	// Over HTTP/2: what is done to the head of the request, or else to all of it.
	head, whole func(x *exchange)
	refuses     bool // which says that it has not run
}

// uncut is how calls are answered that are not cut.
var uncut = cutPoint{read: -1, written: -1}

func newCutting(tb testing.TB, major int) *cutting {
	tb.Helper()
	s := &cutting{major: major, cut: uncut}
	s.addr, _ = acceptRaw(tb, func(conn net.Conn) {
		if reader := bufio.NewReader(conn); major == 1 {
			s.serve1(conn.(*net.TCPConn), reader)
		} else {
			s.serve2(conn, reader)
		}
	})
	return s
}

// cutNext has all calls of Add be cut from now on.
func (s *cutting) cutNext(cut cutPoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut, s.runs = cut, 0
}

// of is how a call is cut.
func (s *cutting) of(path string) cutPoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	if path != add.path {
		return uncut
	}
	return s.cut
}

// run counts a call that begins to run.
func (s *cutting) run(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if path == add.path {
		s.runs++
	}
}

// size is that of the last whole request, in bytes.
func (s *cutting) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

func (s *cutting) ran() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs
}

const wholeAnswer1 = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

func (s *cutting) serve1(conn *net.TCPConn, reader *bufio.Reader) {
	for {
		line, err := reader.Peek(len("POST " + add.path))
		if err != nil {
			return
		}
		path := strings.TrimPrefix(string(line), "POST ")
		cut := s.of(path)
		if cut.read >= 0 { // what was peeked is not read
			if _, err := io.CopyN(io.Discard, reader, int64(cut.read)); err != nil {
				return
			}
			if cut.read == s.size() { // it has all of it
				s.run(path)
			}
			end(conn, cut.reset)
			return
		}
		head := peekHead(reader)
		req, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		n, err := io.Copy(io.Discard, req.Body)
		if err != nil {
			return
		}
		if strings.HasPrefix(req.URL.Path, "/grpc.") {
			_, _ = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
			continue
		}
		s.mu.Lock()
		if req.URL.Path == add.path {
			s.last = len(head) + int(n)
		}
		s.mu.Unlock()
		s.run(req.URL.Path)
		if cut.written >= 0 {
			_, _ = io.WriteString(conn, wholeAnswer1[:cut.written])
			end(conn, cut.reset)
			return
		}
		_, _ = io.WriteString(conn, wholeAnswer1)
	}
}

// end ends a connection: with a reset, or in order, where nobody is left who could read.
func end(conn *net.TCPConn, hard bool) {
	if hard {
		reset(conn)
		return
	}
	_ = conn.CloseWrite()
	_, _ = io.Copy(io.Discard, conn)
}

func (s *cutting) serve2(conn net.Conn, reader io.Reader) {
	framer := greet2(conn, reader)
	if framer == nil {
		return
	}
	paths := map[uint32]string{}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		x, end := &exchange{conn: conn, framer: framer, id: frame.Header().StreamID, contentType: "application/json"}, false
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = framer.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			path := f.PseudoValue("path")
			if paths[x.id], end = path, f.StreamEnded(); strings.HasPrefix(path, "/grpc.") {
				delete(paths, x.id)
				x.head(http.StatusNotFound, 0)
				continue
			}
			if cut := s.of(path); cut.head != nil {
				delete(paths, x.id)
				if cut.head(x); x.closed {
					return
				}
			}
		case *http2.DataFrame:
			end = f.StreamEnded()
		}
		path, ok := paths[x.id]
		if !ok || !end {
			continue
		}
		delete(paths, x.id)
		cut := s.of(path)
		if !cut.refuses {
			s.run(path)
		}
		if cut.whole == nil {
			x.ok()
		} else if cut.whole(x); x.closed {
			return
		}
	}
}

// cuts1 are all places in a call over HTTP/1.1 whose request has so many bytes.
func cuts1(size int) (all []cutPoint) {
	for _, hard := range []bool{false, true} {
		for n := range size + 1 {
			all = append(all, cutPoint{name: fmt.Sprintf("%d bytes read, reset=%t", n, hard), read: n, written: -1, reset: hard})
		}
		for n := range len(wholeAnswer1) + 1 {
			all = append(all, cutPoint{name: fmt.Sprintf("%d bytes written, reset=%t", n, hard), read: -1, written: n, reset: hard})
		}
	}
	return all
}

// cuts2 are all places between the frames of a call over HTTP/2, with all that may happen there.
func cuts2() (all []cutPoint) {
	type end struct {
		name    string
		do      func(x *exchange)
		refuses bool
	}
	ends := []end{{"close", (*exchange).close, false}, {"reset of the connection", (*exchange).reset, false}}
	for code := range http2.ErrCode(0xe) {
		ends = append(ends, end{"RST_STREAM " + code.String(), func(x *exchange) { x.rst(code) }, code == http2.ErrCodeRefusedStream})
		for _, close := range []bool{false, true} {
			ends = append(ends,
				end{fmt.Sprintf("GOAWAY %v below, closed=%t", code, close), func(x *exchange) {
					if x.goAway(x.id-1, code); close {
						x.close()
					}
				}, true},
				end{fmt.Sprintf("GOAWAY %v at it, closed", code), func(x *exchange) { x.goAway(x.id, code); x.close() }, false},
				end{fmt.Sprintf("GOAWAY %v above, closed", code), func(x *exchange) { x.goAway(x.id+100, code); x.close() }, false})
		}
	}
	before := []struct {
		name string
		do   func(x *exchange)
	}{
		{"nothing", func(*exchange) {}},
		{"a 103", func(x *exchange) { x.fields(false, []string{":status: 103"}) }},
		{"the head of the answer", func(x *exchange) { x.head(http.StatusOK, unknown, "Content-Type: application/json") }},
		{"its message", func(x *exchange) { x.head(http.StatusOK, unknown, "Content-Type: application/json"); x.data("{}") }},
	}
	for _, e := range ends {
		all = append(all, cutPoint{name: "after the head of the request: " + e.name, head: e.do, refuses: e.refuses})
		for i, b := range before {
			all = append(all, cutPoint{
				name: "after " + b.name + ": " + e.name, whole: func(x *exchange) { b.do(x); e.do(x) },
				refuses: e.refuses && i < 2, // who has begun to answer has run it
			})
		}
	}
	return all
}

// A call that may not run twice does not, wherever its service cuts it off; and only if it has not run it is stored, or its caller hears that it is safe to
// send it again.
func TestOutcomesAreExact(t *testing.T) {
	t.Parallel()
	for _, speaks := range []engine.Engine{engine.Own, engine.NetHTTP} {
		for _, majors := range pairs {
			for _, stores := range []bool{false, true} {
				t.Run(fmt.Sprintf("engine-%d-%v-stores=%t", speaks, majors, stores), func(t *testing.T) {
					t.Parallel()
					checkOutcomes(t, speaks, majors, stores)
				})
			}
		}
	}
}

func checkOutcomes(t *testing.T, speaks engine.Engine, majors [2]int, stores bool) {
	t.Helper()
	service, mom, moms := newCutting(t, majors[1]), newStandIn(t, nil), []string(nil)
	if stores {
		moms = append(moms, mom.addr)
	}
	g := &noting{Gateway: configured(t, gateway.Config{Engine: speaks}, fmt.Sprintf("http://%s;http=%d", service.addr, majors[1]), moms...)}
	addr, _ := servertest.Run(t, server.Config{Handler: g, Engine: speaks})
	warm, caller, p := client(t, majors[0]), client(t, majors[0]), connect2
	p.quiet = true
	call := func(client *http.Client, m method) string { return p.call(t, client, "http://"+addr, m).what }
	if got := call(warm, add); got != "ok" {
		t.Fatalf("the first call: %s", got)
	}
	cuts := cuts2()
	if majors[1] == 1 {
		cuts = cuts1(service.size())
	}
	told := map[string]int{}
	for _, cut := range cuts {
		service.cutNext(uncut)
		for range 2 { // which keep the breaker closed, and leave a connection
			if got := call(warm, get); got != "ok" {
				t.Fatalf("before %s: %s", cut.name, got)
			}
		}
		service.cutNext(cut)
		before := len(mom.got())
		got := call(caller, add)
		caller.CloseIdleConnections()
		runs, stored := service.ran(), len(mom.got()) > before
		told[got]++
		if speaks == engine.NetHTTP && strings.HasSuffix(cut.name, "RST_STREAM PROTOCOL_ERROR") {
			continue // net/http takes that for a refusal
		}
		if runs > 1 || runs > 0 && (got == again || stored) {
			t.Errorf("%s: it ran %d times, stored: %t, and its caller was told: %s", cut.name, runs, stored, got)
		}
	}
	t.Logf("%d cuts, %d plain calls: %v", len(cuts), g.served.Load()+g.begun.Load(), told)
	if told[unclear] == 0 || speaks == engine.Own && g.begun.Load() == 0 || stores && majors[1] == 2 && told["held"] == 0 {
		t.Errorf("callers were told %v, and %d calls were begun as plain ones", told, g.begun.Load())
	}
}
