package gateway_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// lastPath is what a caller asks for last, to show whether its connection is of use.
const lastPath = "/differ/last"

// leaveWhenSilent closes a connection when the service is silent, if that is what the case's caller does, and tells whether it did.
func (c *oddCase) leaveWhenSilent(conn net.Conn, script *script) (stop func() (left bool)) {
	over, done, left := make(chan struct{}), make(chan struct{}), false
	go func() {
		defer close(done)
		select {
		case <-script.silent:
			if c.leaves {
				left = true
				_ = conn.Close()
			}
		case <-over:
		}
	}()
	return func() bool {
		close(over)
		<-done
		return left
	}
}

// call1 makes the case's calls over HTTP/1.1, and returns what the caller reads.
func (c *oddCase) call1(t *testing.T, addr string, script *script) (told []string) {
	t.Helper()
	conn := dial(t, addr)
	defer func() { _ = conn.Close() }()
	left := c.leaveWhenSilent(conn, script)
	reader := &patient{conn: conn.(*net.TCPConn), patience: c.patience}
	responses := &responses1{reader: bufio.NewReader(reader), c: c}
	ended := false
	write := func(raw string) {
		_ = conn.SetWriteDeadline(time.Now().Add(5 * c.patience))
		_, _ = io.WriteString(conn, raw)
	}
	for _, r := range c.requests {
		for _, part := range r.parts() {
			write(part)
		}
		if r.cut {
			_ = conn.(*net.TCPConn).CloseWrite()
			break
		}
		if c.inTurn {
			if ended = !responses.final(); ended {
				break
			}
		}
	}
	if !ended && !c.requests[len(c.requests)-1].cut {
		write("GET " + lastPath + " HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n\r\n")
	}
	for !ended && responses.next() {
	}
	if left() {
		return []string{"caller left"}
	}
	return responses.told
}

// patient is a connection that is half closed when nothing comes for a while.
type patient struct {
	conn     *net.TCPConn
	patience time.Duration
	ended    bool
}

// Read implements io.Reader.
func (p *patient) Read(b []byte) (int, error) {
	for {
		_ = p.conn.SetReadDeadline(time.Now().Add(p.patience))
		n, err := p.conn.Read(b)
		if !errors.Is(err, os.ErrDeadlineExceeded) || p.ended {
			return n, err
		}
		p.ended = true
		_ = p.conn.CloseWrite()
	}
}

// responses1 are those of a connection.
type responses1 struct {
	reader *bufio.Reader
	c      *oddCase
	n      int // final ones
	told   []string
}

func (r *responses1) tell(format string, a ...any) {
	r.told = append(r.told, "caller read: "+fmt.Sprintf(format, a...))
}

// final reads up to the next final response, and tells whether more may come.
func (r *responses1) final() bool {
	for n := r.n; r.n == n; {
		if !r.next() {
			return false
		}
	}
	return true
}

// next reads a response, and tells whether more may come.
func (r *responses1) next() bool {
	method := http.MethodGet
	if r.n < len(r.c.requests) {
		method = r.c.requests[r.n].method
	}
	if _, err := r.reader.Peek(1); err != nil {
		r.tell("the end")
		return false
	}
	res, err := http.ReadResponse(r.reader, &http.Request{Method: method})
	if err != nil {
		r.tell("no response: %v", err)
		return false
	}
	if res.StatusCode >= http.StatusOK {
		r.n++
	}
	if res.StatusCode == http.StatusContinue {
		return true // whether it is sent where the body has come already is a matter of luck
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.tell("%s, and a body that breaks off", res.Status)
		return false
	}
	fields := lines(res.Header)
	if len(res.Trailer) > 0 {
		fields = append(append(fields, "and then: "), lines(res.Trailer)...)
	}
	r.tell("%s", told(fmt.Sprintf("%s %s close=%t", res.Proto, res.Status, res.Close), fields, reason(res.StatusCode, res.Header.Get("Content-Type"), string(body))))
	return true
}

// call2 makes the case's calls over HTTP/2, and returns what the caller reads.
func (c *oddCase) call2(t *testing.T, addr string, script *script) (told []string) {
	t.Helper()
	conn := dial(t, addr)
	defer func() { _ = conn.Close() }()
	left := c.leaveWhenSilent(conn, script)
	r := &responses2{conn: conn, patience: c.patience, framer: http2.NewFramer(conn, bufio.NewReader(conn))}
	r.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = conn.SetWriteDeadline(time.Now().Add(20 * c.patience))
	_, _ = io.WriteString(conn, http2.ClientPreface)
	_ = r.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	_ = r.framer.WriteWindowUpdate(0, 1<<20)
	id, ok := uint32(1), true
	for _, request := range c.requests {
		writeFrames(r.framer, id, request.frames)
		if request.cut { // nothing is to come of it
			r.tell("stream %d: reset by the caller", id)
		} else if ok = r.stream(id) && !r.leaving; !ok {
			break
		}
		id += 2
	}
	if ok {
		writeFrames(r.framer, id, []oddFrame{headersFrame(true, ":method: GET", ":scheme: http", ":authority: gateway.example", ":path: "+lastPath)})
		r.stream(id)
	}
	if r.leaving {
		r.tell("the connection ends")
	}
	if left() {
		return []string{"caller left"}
	}
	return r.told
}

// responses2 are those of a connection over HTTP/2.
type responses2 struct {
	conn     net.Conn
	patience time.Duration
	framer   *http2.Framer
	told     []string
	// leaving: the server takes no more calls over the connection.
	leaving bool
}

func (r *responses2) tell(format string, a ...any) {
	r.told = append(r.told, "caller read: "+fmt.Sprintf(format, a...))
}

// stream reads until a stream has ended, and tells whether the connection has not.
func (r *responses2) stream(id uint32) bool {
	var fields []string
	var body []byte
	for {
		_ = r.conn.SetReadDeadline(time.Now().Add(r.patience))
		frame, err := r.framer.ReadFrame()
		if err != nil {
			var flaw http2.StreamError
			if errors.As(err, &flaw) {
				r.tell("stream %d: frames that are none: %v", id, err)
				continue
			}
			if !r.leaving {
				r.tell("stream %d: the end of the connection", id)
			}
			return false
		}
		if goAway, ok := frame.(*http2.GoAwayFrame); ok {
			if goAway.ErrCode != http2.ErrCodeNo { // then it ends, soon
				r.tell("stream %d: GOAWAY", id)
				return false
			}
			r.leaving = true
			continue
		}
		if settings, ok := frame.(*http2.SettingsFrame); ok && !settings.IsAck() {
			_ = r.framer.WriteSettingsAck()
		}
		if frame.Header().StreamID != id {
			continue
		}
		switch f := frame.(type) {
		case *http2.RSTStreamFrame:
			if len(fields) > 0 && f.ErrCode == http2.ErrCodeNo {
				continue
			}
			r.tell("stream %d: reset %v", id, f.ErrCode)
			return true
		case *http2.MetaHeadersFrame:
			if len(fields) > 0 {
				fields = append(fields, "and then: ")
			}
			for _, field := range f.Fields {
				fields = append(fields, fmt.Sprintf("%s: %s", field.Name, field.Value))
			}
			if f.StreamEnded() {
				r.whole(id, fields, body)
				return true
			}
		case *http2.DataFrame:
			body = append(body, f.Data()...)
			if f.StreamEnded() {
				r.whole(id, fields, body)
				return true
			}
		}
	}
}

func (r *responses2) whole(id uint32, fields []string, body []byte) {
	status, kind := 0, ""
	for _, f := range fields {
		switch name, value, _ := strings.Cut(f, ": "); name {
		case ":status":
			status, _ = strconv.Atoi(value)
		case "content-type":
			kind = value
		}
	}
	if status == http.StatusRequestHeaderFieldsTooLarge { // each server has its own words
		r.tell("stream %d: 431", id)
		return
	}
	r.tell("stream %d: %s", id, told("", fields, reason(status, kind, string(body))))
}

// reason is the body of a response, but not why a server refuses what is not HTTP: that is for people.
func reason(status int, kind, body string) string {
	if status == http.StatusBadRequest && kind == "text/plain; charset=utf-8" && body != "" {
		return "(a reason)"
	}
	return body
}
