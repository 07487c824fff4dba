package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"slices"
	"strconv"
	"time"

	"holdline/internal/contract"
)

// connectCaller speaks Connect with JSON over HTTP/1.1. It reads just enough of
// HTTP to check an answer: what an http.Client costs on top would be taken from
// the proxy that is measured, on the same cores.
type connectCaller struct {
	conn    net.Conn
	in      *bufio.Reader
	ask     *ask
	request []byte
	key     []byte // its place in request; empty when none is sent
	trace   []byte // likewise
	id      string // of the last answer's task
	body    []byte
	want    []byte // an answer that is known to be right
	sent    time.Time
}

func newConnectCaller(conn net.Conn, a *ask) caller {
	m := a.says()
	c := &connectCaller{conn: conn, in: bufio.NewReader(conn), ask: a, want: m.connect.answer}
	c.request = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: holdline-bench\r\n"+
		"Connect-Protocol-Version: 1\r\nContent-Type: %s\r\nContent-Length: %d\r\n",
		a.path(), conn.RemoteAddr(), m.connectType, len(m.connect.request))
	for _, h := range a.header {
		c.request = fmt.Appendf(c.request, "%s: %s\r\n", h[0], h[1])
	}
	// field adds a header, and returns where its value ends.
	field := func(name, value string) int {
		c.request = fmt.Appendf(c.request, "%s: %s\r\n", name, value)
		return len(c.request) - len("\r\n")
	}
	key, trace := 0, 0
	if a.keyed {
		key = field(contract.HeaderKey, newKey())
	}
	if a.usual {
		field("Connect-Timeout-Ms", connectDeadline)
		trace = field("Traceparent", traceparent+newTrace())
	}
	c.request = append(append(c.request, "\r\n"...), m.connect.request...)
	if a.keyed {
		c.key = c.request[key-len(newKey()) : key]
	}
	if a.usual {
		c.trace = c.request[trace-len(newTrace()) : trace]
	}
	return c
}

func (c *connectCaller) send(now time.Time) error {
	c.sent = now
	if c.ask.keyed {
		copy(c.key, newKey())
	}
	if c.ask.usual {
		copy(c.trace, newTrace())
	}
	_, err := c.conn.Write(c.request)
	return err
}

func (c *connectCaller) flush() error { return nil }

func (c *connectCaller) receive() (time.Time, error) {
	err := c.read()
	if err == nil {
		err = c.check()
	}
	return c.sent, err
}

// check checks what was read.
func (c *connectCaller) check() error {
	if err := c.ask.checkTask(c.id); err != nil {
		return err
	}
	if c.ask.handle {
		// What follows the code differs with each task.
		if !bytes.HasPrefix(c.body, []byte(`{"code":"deadline_exceeded"`)) {
			return fmt.Errorf("answer %q, want code deadline_exceeded", c.body)
		}
		return nil
	}
	if bytes.Equal(c.body, c.want) {
		return nil
	}
	// protojson puts spaces where it likes, the same ones for as long as it runs.
	var answer bytes.Buffer
	if want := c.ask.says().connect.answer; json.Compact(&answer, c.body) != nil || !bytes.Equal(answer.Bytes(), want) {
		return fmt.Errorf("answer %.64q, want %.64q", c.body, want)
	}
	c.want = bytes.Clone(c.body)
	return nil
}

// read reads a response into body.
func (c *connectCaller) read() error {
	status, err := c.line()
	if err != nil {
		return err
	}
	want := "200"
	if c.ask.handle {
		want = "202"
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 "+want)) {
		return fmt.Errorf("status %q, want %s", status, want)
	}
	c.id = ""
	length, chunked := -1, false
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		if len(line) == 0 {
			break
		}
		key, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case is(key, "Content-Length"):
			if length, err = strconv.Atoi(string(textproto.TrimBytes(value))); err != nil {
				return fmt.Errorf("header %q: %w", line, err)
			}
		case is(key, "Transfer-Encoding"):
			chunked = is(textproto.TrimBytes(value), "chunked")
		case is(key, contract.HeaderTask):
			c.id = string(textproto.TrimBytes(value))
		}
	}
	c.body = c.body[:0]
	if !chunked {
		if length < 0 {
			return fmt.Errorf("response without a length")
		}
		return c.take(length)
	}
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil {
			return fmt.Errorf("chunk size %q: %w", line, err)
		}
		if size > 0 {
			err = c.take(int(size))
		}
		if err != nil {
			return err
		}
		if end, err := c.line(); err != nil || len(end) > 0 {
			return fmt.Errorf("%q after a chunk, want an empty line (%w)", end, err)
		}
		if size == 0 {
			return nil
		}
	}
}

// is compares without regard to case, as header names want it.
func is(got []byte, want string) bool {
	return len(got) == len(want) && bytes.EqualFold(got, []byte(want))
}

func (c *connectCaller) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), err
}

// take appends n bytes to body.
func (c *connectCaller) take(n int) error {
	from := len(c.body)
	c.body = slices.Grow(c.body, n)[:from+n]
	_, err := io.ReadFull(c.in, c.body[from:])
	return err
}

func (c *connectCaller) advance() (time.Time, bool, error) {
	sent, err := c.receive()
	return sent, true, err
}

// come looks for a whole response. One in chunks has come with the last of them.
func (c *connectCaller) come() (bool, error) {
	for {
		came, _ := c.in.Peek(c.in.Buffered())
		if head, body, ok := bytes.Cut(came, []byte("\r\n\r\n")); ok {
			_, rest, sized := bytes.Cut(head, []byte("\r\nContent-Length: "))
			if !sized {
				_, rest, sized = bytes.Cut(head, []byte("\r\ncontent-length: "))
			}
			digits, _, _ := bytes.Cut(rest, []byte("\r\n"))
			length, err := strconv.Atoi(string(digits))
			if sized && err == nil && len(body) >= length || !sized && bytes.HasSuffix(body, []byte("0\r\n\r\n")) {
				return true, nil
			}
		}
		if len(came) == c.in.Size() {
			return true, nil // receive has to see to it
		}
		if _, err := c.in.Peek(len(came) + 1); err != nil {
			return whole(err)
		}
	}
}

func (c *connectCaller) buffered() int { return c.in.Buffered() }

func (c *connectCaller) task() string { return c.id }

func (c *connectCaller) expire(at time.Time) error { return c.conn.SetDeadline(at) }

func (c *connectCaller) close() { _ = c.conn.Close() }
