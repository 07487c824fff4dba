package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// attacks are what hostile callers do. Each returns when it has been done.
var attacks = []struct {
	name   string
	attack func(t *testing.T, v *victim)
}{
	{"slow headers", slowHeaders},
	{"slow bodies", slowBodies},
	{"announced bodies", announcedBodies},
	{"rapid reset", rapidReset},
	{"CONTINUATION flood", continuations},
	{"header flood", headerFlood},
	{"SETTINGS flood", func(t *testing.T, v *victim) {
		flood(t, v, func(f *http2.Framer) error { return f.WriteSettings() })
	}},
	{"PING flood", func(t *testing.T, v *victim) {
		flood(t, v, func(f *http2.Framer) error { return f.WritePing(false, [8]byte{}) })
	}},
	{"idle streams", idleStreams},
}

// slowHeaders is slowloris: connections whose headers never end, in both
// versions of HTTP. The server ends each of them.
func slowHeaders(t *testing.T, v *victim) {
	var callers sync.WaitGroup
	for i := range 200 {
		callers.Go(func() {
			conn := dial(t, v.addr)
			start, more := "POST "+add.path+" HTTP/1.1\r\n", "X-Slow: 1\r\n"
			if i%2 == 1 {
				start, more = http2.ClientPreface[:10], "" // a byte more, and it is another protocol
			}
			_, _ = io.WriteString(conn, start)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			stop := context.AfterFunc(t.Context(), func() { _ = conn.Close() })
			defer stop()
			for range tick.C {
				_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
				if _, err := io.Copy(io.Discard, conn); !errors.Is(err, os.ErrDeadlineExceeded) {
					return // ended
				}
				_, _ = io.WriteString(conn, more)
			}
		})
	}
	callers.Wait()
}

// slowBodies sends bodies byte by byte. The service sees none of them.
func slowBodies(t *testing.T, v *victim) {
	var conns []net.Conn
	for range 200 {
		conn := dial(t, v.addr)
		_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nHang: 1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n", add.path)
		conns = append(conns, conn)
	}
	for range 50 {
		<-time.After(10 * time.Millisecond)
		for _, conn := range conns {
			_, _ = conn.Write([]byte(" "))
		}
	}
	if got := v.begun.Load(); got > 0 {
		t.Errorf("service saw %d calls whose bodies have not come", got)
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
}

// announcedBodies promises large bodies and sends none: the promise is no reason
// to make room.
func announcedBodies(t *testing.T, v *victim) {
	var callers []*raw2
	for range 2 {
		r := dial2(t, v.addr)
		for range 250 {
			r.headers(t, false, add.path, "content-length: 1048576")
		}
		callers = append(callers, r)
	}
	v.callGood(t)
	<-time.After(500 * time.Millisecond)
	for _, r := range callers {
		_ = r.conn.Close()
	}
}

// rapidReset opens streams and resets them: at once, until the server has had
// enough, and once they hang at the service.
func rapidReset(t *testing.T, v *victim) {
	open := func(r *raw2) (id uint32, err error) {
		id = r.headers(t, false, add.path, "hang: 1", "content-type: application/json")
		return id, r.framer.WriteData(id, true, []byte("{}"))
	}
	for range 4 {
		r := dial2(t, v.addr)
		for range 5000 {
			id, err := open(r)
			if err != nil || r.framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
				break
			}
		}
		_ = r.conn.Close()
	}
	const streams = 200
	r := dial2(t, v.addr)
	r.pongs(t)
	for range 20 {
		var ids []uint32
		for range streams {
			id, err := open(r)
			if err != nil {
				t.Errorf("stream %d: %v", id, err)
				return
			}
			ids = append(ids, id)
		}
		settle(t, func() error {
			for n := r.refused.Swap(0); n > 0; n-- { // calls that were reset count until the gateway is done with them
				if id, err := open(r); err == nil {
					ids = append(ids, id)
				}
			}
			return v.hang(streams)
		})
		for _, id := range ids {
			_ = r.framer.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		v.awaitHanging(t, 0)
	}
	_ = r.conn.Close()
}

// continuations sends a head that never ends, until the server ends it.
func continuations(t *testing.T, v *victim) {
	r := dial2(t, v.addr)
	block := r.block("x-flood: " + strings.Repeat("x", 8<<10))
	err := r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block})
	for n := 0; err == nil; n++ {
		if err = r.framer.WriteContinuation(1, false, block); n > 10_000 {
			t.Error("80 MiB of one head, and the connection is still open")
			return
		}
	}
}

// headerFlood sends heads over the limit, on streams and on connections.
func headerFlood(t *testing.T, v *victim) {
	r := dial2(t, v.addr)
	for range 500 {
		if r.headers(t, true, add.path, "x-flood: "+strings.Repeat("x", 100<<10)) == 0 {
			break
		}
	}
	_ = r.conn.Close()
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			conn := dial(t, v.addr)
			_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n", add.path, strings.Repeat("X-Flood: "+strings.Repeat("x", 1000)+"\r\n", 100))
			if answer, _ := io.ReadAll(conn); len(answer) > 0 && !strings.HasPrefix(string(answer), "HTTP/1.1 431") {
				t.Errorf("caller saw %q, want 431", answer)
			}
		})
	}
	callers.Wait()
}

// flood sends frames that want an answer, and reads none, until the server has had enough.
func flood(t *testing.T, v *victim, write func(*http2.Framer) error) {
	r := dial2(t, v.addr)
	patience := time.Now().Add(30 * time.Second) // net/http sends one answer to many SETTINGS, and closes only for a ping without its answer
	for write(r.framer) == nil {
		if time.Now().After(patience) {
			t.Error("30 s of frames without a reader, and the connection is still open")
			return
		}
	}
}

// idleStreams opens as many streams as it may on some connections, and leaves
// them open.
func idleStreams(t *testing.T, v *victim) {
	const conns, streams = 4, 250
	var callers []*raw2
	for range conns {
		r := dial2(t, v.addr)
		for range streams {
			r.headers(t, false, watch.path, "hang: 1", "content-type: application/connect+json")
		}
		r.pongs(t)
		callers = append(callers, r)
	}
	v.awaitHanging(t, conns*streams)
	v.callGood(t)
	for _, r := range callers {
		_ = r.conn.Close()
	}
}

// awaitHanging waits until so many calls hang at the service.
func (v *victim) awaitHanging(t *testing.T, want int64) {
	t.Helper()
	settle(t, func() error { return v.hang(want) })
}

// hang is an error unless so many calls hang at the service.
func (v *victim) hang(want int64) error {
	if got := v.hanging.Load(); got != want {
		return fmt.Errorf("%d calls hang at the service, want %d", got, want)
	}
	return nil
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute)) // a test that hangs says where
	return conn
}

// raw2 speaks HTTP/2 frame by frame.
type raw2 struct {
	conn    net.Conn
	framer  *http2.Framer
	encoder *hpack.Encoder
	decoder *hpack.Decoder
	buffer  strings.Builder
	next    uint32
	refused atomic.Int64 // streams, as far as pongs has read
}

func dial2(t *testing.T, addr string) *raw2 {
	t.Helper()
	r := &raw2{conn: dial(t, addr), next: 1}
	r.framer = http2.NewFramer(r.conn, r.conn)
	r.encoder = hpack.NewEncoder(&r.buffer)
	r.decoder = hpack.NewDecoder(4096, nil)
	_, _ = io.WriteString(r.conn, http2.ClientPreface)
	_ = r.framer.WriteSettings()
	return r
}

// pongs answers pings from now on, until the connection ends: on a slow machine an attack takes longer than a connection
// may be silent. It counts streams that are refused.
func (r *raw2) pongs(t *testing.T) {
	t.Helper()
	var answering sync.WaitGroup
	answering.Go(func() {
		beside := http2.NewFramer(r.conn, r.conn) // each frame is one Write
		for {
			frame, err := beside.ReadFrame()
			if err != nil {
				return
			}
			switch f := frame.(type) {
			case *http2.PingFrame:
				if !f.IsAck() {
					_ = beside.WritePing(true, f.Data)
				}
			case *http2.RSTStreamFrame:
				if f.ErrCode == http2.ErrCodeRefusedStream {
					r.refused.Add(1)
				}
			}
		}
	})
	t.Cleanup(func() {
		_ = r.conn.Close()
		answering.Wait()
	})
}

func (r *raw2) block(fields ...string) []byte {
	r.buffer.Reset()
	for _, field := range fields {
		key, value, _ := strings.Cut(field, ": ")
		_ = r.encoder.WriteField(hpack.HeaderField{Name: key, Value: value})
	}
	return []byte(r.buffer.String())
}

// headers begins a request, and returns its stream; 0 when the server has had
// enough.
func (r *raw2) headers(t *testing.T, end bool, path string, fields ...string) (id uint32) {
	t.Helper()
	id = r.next
	r.next += 2
	block := r.block(append([]string{":method: " + http.MethodPost, ":scheme: http", ":authority: x", ":path: " + path}, fields...)...)
	const most = 16 << 10 // of a frame
	param := http2.HeadersFrameParam{StreamID: id, EndStream: end, BlockFragment: block[:min(len(block), most)], EndHeaders: len(block) <= most}
	err := r.framer.WriteHeaders(param)
	for block = block[len(param.BlockFragment):]; len(block) > 0 && err == nil; {
		n := min(len(block), most)
		err = r.framer.WriteContinuation(id, n == len(block), block[:n])
		block = block[n:]
	}
	if err != nil {
		return 0
	}
	return id
}

// read is the next frame of a stream.
func (r *raw2) read(t *testing.T, id uint32) http2.Frame {
	t.Helper()
	for {
		frame, err := r.framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if frame.Header().StreamID == id {
			return frame
		}
	}
}

// status is that of the response on a stream.
func (r *raw2) status(t *testing.T, id uint32) (status string) {
	t.Helper()
	head, ok := r.read(t, id).(*http2.HeadersFrame)
	if !ok {
		t.Fatal("there is no head")
	}
	fields, err := r.decoder.DecodeFull(head.HeaderBlockFragment())
	if err != nil {
		t.Fatal(err)
	}
	return fields[0].Value
}

// settled waits until the server has taken both SETTINGS.
func (r *raw2) settled(t *testing.T) {
	t.Helper()
	for acks := 0; acks < 2; {
		if f, ok := r.read(t, 0).(*http2.SettingsFrame); ok && f.IsAck() {
			acks++
		}
	}
}
