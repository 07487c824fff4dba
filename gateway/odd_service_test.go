package gateway_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// warmUp is the header of a call that shows the gateway what its service speaks. It is answered, and not told.
const warmUp = "X-Warm-Up"

// scripted is a service that answers by the script of a case, in raw bytes.
type scripted struct {
	addr string
	cut  func() // its connections

	mu     sync.Mutex
	script *script
}

// script is a case as its service has it.
type script struct {
	c      *oddCase
	silent chan struct{} // closed when a request gets no answer

	mu      sync.Mutex
	came    int
	seen    []string
	ended   bool
	running atomic.Int64 // calls at the gateway
}

func newScripted(tb testing.TB) *scripted {
	tb.Helper()
	s := &scripted{}
	s.addr, s.cut = acceptRaw(tb, s.serve)
	return s
}

// begin begins a case.
func (s *scripted) begin(c *oddCase) *script {
	s.cut() // what is left of the one before
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = &script{c: c, silent: make(chan struct{})}
	return s.script
}

// end returns what was seen.
func (s *script) end() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return s.seen
}

// of is the script that a path belongs to; nil: it is none of a case.
func (s *scripted) of(path string) *script {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.script == nil || !strings.Contains(path, fmt.Sprintf("Odd%dService", s.script.c.number)) {
		return nil
	}
	return s.script
}

// next takes note of a request, and returns the answer to it.
func (s *script) next(what string) oddAnswer {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.c.answers[min(s.came, len(s.c.answers)-1)]
	if s.came++; !s.ended {
		s.seen = append(s.seen, fmt.Sprintf("service saw %d: %s", s.came, what))
	}
	if a.silent {
		select {
		case <-s.silent:
		default:
			close(s.silent)
		}
	}
	return a
}

// offered takes note of what a MOM is offered.
func (s *scripted) offered(r *http.Request) {
	script := s.of(r.URL.Path)
	if script == nil || strings.HasPrefix(r.URL.Path, "/grpc.health") {
		return
	}
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	script.mu.Lock()
	defer script.mu.Unlock()
	script.seen = append(script.seen, told(fmt.Sprintf("MOM saw: %s %s %s %v", r.Method, r.Host, r.RequestURI, err != nil), lines(r.Header), string(body)))
}

func (s *scripted) serve(conn net.Conn) {
	reader := bufio.NewReaderSize(conn, 256<<10)
	if start, _ := reader.Peek(len("PRI *")); string(start) == "PRI *" {
		s.serve2(conn, reader)
		return
	}
	for {
		head := peekHead(reader)
		req, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		script := s.of(req.URL.Path)
		if script == nil || strings.HasPrefix(req.URL.Path, "/grpc.") {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
			continue
		}
		if strings.EqualFold(req.Header.Get("Expect"), "100-continue") {
			_, _ = io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		if req.Header.Get(warmUp) != "" {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
			continue
		}
		said := strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n")
		a := script.next(told(said[0], append(said[1:], lines(req.Trailer)...), string(body)))
		if a.silent {
			_, _ = reader.Peek(1)
			return
		}
		for _, part := range a.raw {
			_, _ = io.WriteString(conn, part)
		}
		switch a.end {
		case "reset":
			reset(conn)
			return
		case "close":
			_ = conn.SetReadDeadline(time.Now().Add(script.c.patience / beforeClose))
		}
	}
}

// beforeClose is what part of its caller's patience a service waits before it closes a connection. Where the gateway takes an answer for whole, the next request may
// come at once, and would otherwise meet the end.
const beforeClose = 10

// peekHead is the head that comes next, as bytes.
func peekHead(reader *bufio.Reader) string {
	for n := 1; ; n = reader.Buffered() + 1 {
		_, err := reader.Peek(n)
		all, _ := reader.Peek(reader.Buffered())
		if end := bytes.Index(all, []byte("\r\n\r\n")); end >= 0 {
			return string(all[:end+4])
		}
		if err != nil {
			return string(all)
		}
	}
}

// stream is one at the service.
type oddStream struct {
	fields []string
	path   string
	warm   bool
	body   []byte
}

func (s *scripted) serve2(conn net.Conn, reader io.Reader) {
	framer := greet2(conn, reader, http2.Setting{ID: http2.SettingInitialWindowSize, Val: roomy})
	if framer == nil {
		return
	}
	_ = framer.WriteWindowUpdate(0, roomy)
	streams := map[uint32]*oddStream{}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		id, end := frame.Header().StreamID, false
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = framer.WritePing(true, f.Data)
			}
		case *http2.RSTStreamFrame:
			delete(streams, id)
		case *http2.MetaHeadersFrame:
			var fields []string
			warm := false
			for _, field := range f.Fields {
				fields = append(fields, fmt.Sprintf("%s: %s", field.Name, field.Value))
				warm = warm || strings.EqualFold(field.Name, warmUp)
			}
			if end = f.StreamEnded(); streams[id] != nil {
				streams[id].fields = append(append(streams[id].fields, "and then: "), fields...)
			} else {
				streams[id] = &oddStream{fields: fields, path: f.PseudoValue("path"), warm: warm}
			}
		case *http2.DataFrame:
			if x := streams[id]; x != nil {
				x.body, end = append(x.body, f.Data()...), f.StreamEnded()
			}
		}
		x := streams[id]
		if x == nil || !end {
			continue
		}
		delete(streams, id)
		script := s.of(x.path)
		switch {
		case script == nil, strings.HasPrefix(x.path, "/grpc."):
			writeFrames(framer, id, []oddFrame{headersFrame(true, ":status: 404")})
			continue
		case x.warm:
			writeFrames(framer, id, []oddFrame{headersFrame(false, ":status: 200", "content-type: application/json"), dataFrame(true, "{}")})
			continue
		}
		a := script.next(told("", x.fields, string(x.body)))
		if slices.Contains(x.fields, ":method: HEAD") {
			a.frames = []oddFrame{headersFrame(true, ":status: 200")}
		}
		writeFrames(framer, id, a.frames)
		switch a.end {
		case "reset":
			reset(conn)
			return
		case "close":
			return
		}
	}
}

// calls counts a call at the gateway as one of the case that is run.
func (s *scripted) calls() (ended func()) {
	s.mu.Lock()
	script := s.script
	s.mu.Unlock()
	script.running.Add(1)
	return func() { script.running.Add(-1) }
}
