package h2_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"holdline/internal/wire/h2"
	"holdline/internal/wire/wiretest"
)

// raw is the side of a connection that writes its frames itself; its methods but fields are for servers.
type raw struct {
	*http2.Framer
	net.Conn
	testing.TB
	block bytes.Buffer
	hpack *hpack.Encoder
}

// serve accepts connections one after the other, and greets.
func serve(tb testing.TB, settings []http2.Setting, each ...func(*raw)) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ended := make(chan struct{})
	tb.Cleanup(func() { _ = ln.Close(); <-ended })
	go func() {
		defer close(ended)
		for _, do := range each {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err == nil {
				s := &raw{Framer: http2.NewFramer(c, c), Conn: c, TB: tb}
				s.hpack = hpack.NewEncoder(&s.block)
				_ = s.WriteSettings(settings...)
				do(s)
			}
			_ = c.Close()
		}
	}()
	return "http://" + ln.Addr().String()
}

// await reads up to a frame of a kind, and returns it; nil at the end of the connection.
func (s *raw) await(kind http2.FrameType) http2.Frame {
	for {
		frame, err := s.ReadFrame()
		if err != nil {
			return nil
		}
		if frame.Header().Type == kind {
			return frame
		}
	}
}

// call awaits a request, and returns its stream.
func (s *raw) call() uint32 {
	frame := s.await(http2.FrameHeaders)
	if frame == nil {
		return 0
	}
	return frame.Header().StreamID
}

// fields is a block of headers.
func (s *raw) fields(pairs ...string) []byte {
	s.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		_ = s.hpack.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return s.block.Bytes()
}

func (s *raw) head(id uint32, end bool, pairs ...string) {
	_ = s.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: s.fields(pairs...), EndHeaders: true, EndStream: end})
}

// rest reads until the client closes.
func (s *raw) rest() { _, _ = io.Copy(io.Discard, s.Conn) }

// What the server has surely not touched is told from what it may have.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	answer := func(s *raw) {
		s.head(s.call(), true, ":status", "200")
		s.rest()
	}
	for name, c := range map[string]struct {
		do      func(*raw)
		refused bool
	}{
		"refused": {func(s *raw) { _ = s.WriteRSTStream(s.call(), http2.ErrCodeRefusedStream); s.rest() }, true},
		"reset":   {func(s *raw) { _ = s.WriteRSTStream(s.call(), http2.ErrCodeCancel); s.rest() }, false},
		"below a GOAWAY, reset": {func(s *raw) {
			id := s.call()
			_ = s.WriteGoAway(id, 0, nil)
			_ = s.WriteRSTStream(id, http2.ErrCodeInternal)
			s.rest()
		}, false},
		"below a GOAWAY, lost":  {func(s *raw) { _ = s.WriteGoAway(s.call(), http2.ErrCodeEnhanceYourCalm, nil) }, false},
		"above a GOAWAY":        {func(s *raw) { s.call(); _ = s.WriteGoAway(0, http2.ErrCodeNo, nil); s.rest() }, true},
		"above an angry GOAWAY": {func(s *raw) { s.call(); _ = s.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, nil); s.rest() }, true},
		"lost":                  {func(s *raw) { s.call() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, transport := serve(t, nil, c.do, answer), newTransport()
			defer transport.CloseIdleConnections()
			_, err := wiretest.Try(t, transport, url)
			var reset http2.StreamError
			refused := errors.As(err, &reset) && reset.Code == http2.ErrCodeRefusedStream
			if err == nil || refused != c.refused || errors.Is(err, h2.ErrUnsent) { // the server has read it
				t.Errorf("got %v, refused: %v, want %v", err, refused, c.refused)
			}
		})
	}
	t.Run("below a GOAWAY, answered", func(t *testing.T) {
		t.Parallel()
		transport := newTransport()
		defer transport.CloseIdleConnections()
		url := serve(t, nil, func(s *raw) {
			id := s.call()
			_ = s.WriteGoAway(id, 0, nil)
			s.head(id, false, ":status", "200")
			_ = s.WriteData(id, true, []byte("one"))
			s.rest()
		}, answer)
		if got, err := wiretest.Try(t, transport, url); got != "one" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if _, err := wiretest.Try(t, transport, url); err != nil {
			t.Errorf("the next one: %v", err)
		}
	})
}

// Of DATA that is too much, nothing is read: whoever passes a body on would send more than its content-length.
func TestTooLongIsNotRead(t *testing.T) {
	t.Parallel()
	transport := newTransport()
	defer transport.CloseIdleConnections()
	url := serve(t, nil, func(s *raw) {
		id := s.call()
		s.head(id, false, ":status", "200", "content-length", "2")
		_ = s.WriteData(id, false, []byte("o"))
		_ = s.WriteData(id, true, []byte("ne"))
		s.rest()
	})
	if got, err := wiretest.Try(t, transport, url); err == nil || len(got) > 1 {
		t.Errorf("got %q, %v, want no more than a byte and an error", got, err)
	}
}

// A server that does not keep to the protocol ends its own stream, or its connection, and nothing else.
func TestMalformed(t *testing.T) {
	t.Parallel()
	ok := []string{":status", "200"}
	for name, do := range map[string]func(*raw){
		"no status":       func(s *raw) { s.head(s.call(), true, "color", "red") },
		"an odd status":   func(s *raw) { s.head(s.call(), true, ":status", "2000") },
		"101":             func(s *raw) { s.head(s.call(), false, ":status", "101") },
		"upper case":      func(s *raw) { s.head(s.call(), true, append(ok, "Color", "red")...) },
		"a line break":    func(s *raw) { s.head(s.call(), true, append(ok, "color", "red\nblue")...) },
		"a second status": func(s *raw) { s.head(s.call(), true, append(ok, ok...)...) },
		"1xx at the end":  func(s *raw) { s.head(s.call(), true, ":status", "103") },
		"DATA first":      func(s *raw) { _ = s.WriteData(s.call(), true, []byte("one")) },
		"DATA that is too long": func(s *raw) {
			id := s.call()
			s.head(id, false, append(ok, "content-length", "2")...)
			_ = s.WriteData(id, true, []byte("one"))
		},
		"DATA that is too short": func(s *raw) {
			id := s.call()
			s.head(id, false, append(ok, "content-length", "4")...)
			_ = s.WriteData(id, true, []byte("one"))
		},
		"two lengths":       func(s *raw) { s.head(s.call(), true, append(ok, "content-length", "0", "content-length", "0")...) },
		"a length of -1":    func(s *raw) { s.head(s.call(), true, append(ok, "content-length", "-1")...) },
		"no DATA":           func(s *raw) { s.head(s.call(), true, append(ok, "content-length", "4")...) },
		"heads without end": func(s *raw) { id := s.call(); s.head(id, false, ok...); s.head(id, false, "weight", "1") },
		"1xx without end": func(s *raw) {
			for id := s.call(); ; {
				if err := s.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: s.fields(":status", "103"), EndHeaders: true}); err != nil {
					return
				}
			}
		},
		"another stream's frame": func(s *raw) { s.head(s.call()+2, true, ok...) },
		"an even stream":         func(s *raw) { s.call(); s.head(2, true, ok...) },
		"a block that is none": func(s *raw) {
			_ = s.WriteHeaders(http2.HeadersFrameParam{StreamID: s.call(), BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
		},
		"a block without end": func(s *raw) { endless(s, bytes.Repeat([]byte{0}, 16<<10)) },
		"empty fragments":     func(s *raw) { endless(s, nil) },
		"a frame within a block": func(s *raw) {
			_ = s.WriteHeaders(http2.HeadersFrameParam{StreamID: s.call(), BlockFragment: s.fields(ok...)})
			_ = s.WritePing(false, [8]byte{})
		},
		"a promise": func(s *raw) {
			_ = s.WritePushPromise(http2.PushPromiseParam{StreamID: s.call(), PromiseID: 2, BlockFragment: s.fields(ok...), EndHeaders: true})
		},
		"a frame that is too large":  func(s *raw) { _ = s.WriteRawFrame(http2.FrameData, 0, s.call(), make([]byte, 16<<10+1)) },
		"a window that is too large": func(s *raw) { s.call(); _ = s.WriteWindowUpdate(0, 1<<31-1) },
		"a credit of nothing":        func(s *raw) { _ = s.WriteRawFrame(http2.FrameWindowUpdate, 0, s.call(), make([]byte, 4)) },
		"settings of five bytes":     func(s *raw) { s.call(); _ = s.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 5)) },
		"padding alone":              func(s *raw) { _ = s.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, s.call(), []byte{5, 0}) },
		"HTTP/1.1": func(s *raw) {
			s.call()
			_, _ = io.WriteString(s.Conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transport := newTransport()
			defer transport.CloseIdleConnections()
			url := serve(t, nil, func(s *raw) { do(s); s.rest() })
			if got, err := wiretest.Try(t, transport, url); err == nil {
				t.Errorf("got %q, want an error", got)
			}
			transport.CloseIdleConnections() // where the stream alone has ended
		})
	}
}

// A server may send no more than the window takes, while nobody reads.
func TestTooMuchData(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	transport := newTransport()
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(wiretest.Request(t.Context(), t, serve(t, nil, func(s *raw) {
		defer close(ended)
		id := s.call()
		s.head(id, false, ":status", "200")
		for range 2 << 20 / (16 << 10) {
			_ = s.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, id, append([]byte{255}, make([]byte, 16<<10-1)...))
		}
		s.rest()
	}), nil))
	if err != nil {
		t.Fatal(err)
	}
	<-ended
	if _, err := io.Copy(io.Discard, res.Body); !errors.Is(err, http2.ConnectionError(http2.ErrCodeFlowControl)) {
		t.Errorf("got %v, want FLOW_CONTROL_ERROR", err)
	}
	_ = res.Body.Close()
}

// endless begins a block, and goes on as long as it is read.
func endless(s *raw, fragment []byte) {
	id := s.call()
	err := s.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: s.fields(":status", "200")})
	for ; err == nil; err = s.WriteContinuation(id, false, fragment) {
	}
}

// What RFC 9113 allows and few servers do.
func TestOdd(t *testing.T) {
	t.Parallel()
	transport := newTransport()
	defer transport.CloseIdleConnections()
	url := serve(t, nil, func(s *raw) {
		_ = s.WriteRawFrame(0xfe, 0, 0, []byte("of an extension"))
		_ = s.WritePing(false, [8]byte{1})
		id := s.call()
		_ = s.WritePriority(id, http2.PriorityParam{Weight: 1})
		block := bytes.Clone(s.fields(":status", "200", "color", strings.Repeat("red", 100)))
		_ = s.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:1], PadLength: 3, Priority: http2.PriorityParam{StreamDep: 5}})
		for i := range block[1:] {
			if i < 100 {
				_ = s.WriteContinuation(id, false, block[i+1:i+2])
			}
		}
		_ = s.WriteContinuation(id, true, block[101:])
		_ = s.WriteDataPadded(id, false, []byte("on"), make([]byte, 200))
		_ = s.WriteData(id, false, nil)
		_ = s.WriteData(id, false, []byte("e"))
		s.head(id, true, "weight", "1")
		_ = s.WriteRSTStream(id, http2.ErrCodeNo)
		s.rest()
	})
	req := wiretest.Request(t.Context(), t, url, nil)
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "one" || len(res.Header.Get("Color")) != 300 || res.Trailer.Get("Weight") != "1" {
		t.Errorf("got %q, %v, %v, %v", body, err, res.Header, res.Trailer)
	}
}

// Bodies wait for the windows of the server, of whatever size.
func TestWindows(t *testing.T) {
	t.Parallel()
	for _, window := range []uint32{0, 1, 3, 16 << 10} {
		transport := newTransport()
		defer transport.CloseIdleConnections()
		const message = "hello"
		url := serve(t, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: window}}, func(s *raw) {
			s.head(s.call(), true, ":status", "200") // it is greeted now
			id, got := s.call(), ""
			for got != message {
				if window == 0 {
					_ = s.WriteWindowUpdate(id, 1)
				}
				frame, _ := s.await(http2.FrameData).(*http2.DataFrame)
				if frame == nil || window > 0 && len(frame.Data()) > int(window) {
					t.Errorf("got %v of a window of %d", frame, window)
					return
				}
				if got += string(frame.Data()); window > 0 {
					_ = s.WriteWindowUpdate(id, uint32(len(frame.Data())))
				}
			}
			s.head(id, false, ":status", "200")
			_ = s.WriteData(id, true, []byte(got))
			s.rest()
		})
		if res, err := transport.RoundTrip(wiretest.Request(t.Context(), t, url, http.NoBody)); err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(err)
		}
		if got, err := wiretest.Try(t, transport, url); got != message || err != nil {
			t.Errorf("a window of %d: got %q, %v", window, got, err)
		}
	}
}

// stuck is a connection whose writes wait, and whose reads end when it is cut.
type stuck struct {
	net.Conn
	writing chan struct{} // closed when the first write waits
	cut     chan struct{}
}

// Write implements net.Conn.
func (s stuck) Write([]byte) (int, error) {
	close(s.writing)
	<-s.cut
	return 0, io.ErrClosedPipe
}

// Read implements net.Conn.
func (s stuck) Read([]byte) (int, error) {
	<-s.cut
	return 0, io.EOF
}

// Close implements net.Conn.
func (s stuck) Close() error { return nil }

// A connection that ends before it is used says why, and not that the server refused a stream.
func TestEndsAtOnce(t *testing.T) {
	t.Parallel()
	transport, dials := newTransport(), 0
	transport.Dial = func(context.Context, string, string) (net.Conn, error) {
		dials++
		s := stuck{writing: make(chan struct{}), cut: make(chan struct{})}
		close(s.cut)
		return s, nil
	}
	const all = 5000 // each end may come first
	for range all {
		if _, err := transport.RoundTrip(wiretest.Request(t.Context(), t, "http://a", nil)); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %v", err)
		}
	}
	if dials != all {
		t.Errorf("dialled %d times for %d requests", dials, all)
	}
}

// A request of which no byte was written says so.
func TestUnsent(t *testing.T) {
	t.Parallel()
	s := stuck{writing: make(chan struct{}), cut: make(chan struct{})}
	transport := newTransport()
	transport.Dial = func(context.Context, string, string) (net.Conn, error) { return s, nil }
	got := make(chan error, 2)
	for range 2 {
		opened := make(chan struct{})
		told := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteHeaders: func() { close(opened) }})
		go func() {
			_, err := transport.RoundTrip(wiretest.Request(told, t, "http://a", nil))
			got <- err
		}()
		<-opened
		<-s.writing // what comes now is not in that
	}
	close(s.cut)
	unsent := 0
	for range 2 {
		if err := <-got; errors.Is(err, h2.ErrUnsent) {
			unsent++
		} else if err == nil {
			t.Error("got a response")
		}
	}
	if unsent == 0 {
		t.Error("no request says that it was not sent")
	}
}
