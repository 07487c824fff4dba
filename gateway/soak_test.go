package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
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

	"holdline/internal/freeport"
)

var soakTime = flag.Duration("soak", 2*time.Second, "how long TestSoak calls")

// soak is a service that fails at random, and what is known of its calls.
type soak struct {
	tb      testing.TB
	calls   sync.Map // of a caller's id: *soaked
	ids     atomic.Int64
	answers atomic.Int64
}

// soaked is one call.
type soaked struct {
	path    string
	runs    atomic.Int32
	refused atomic.Bool // its caller was told that it did not run
}

// pattern is a body that belongs to a call, and to no other.
func pattern(id string, size int) []byte {
	return bytes.Repeat([]byte(id+" "), size/(len(id)+1)+1)[:size]
}

// ServeHTTP answers, or not.
func (s *soak) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	id := r.Header.Get("Call")
	call, _ := s.calls.Load(id)
	if err != nil || call == nil {
		return
	}
	c, _ := call.(*soaked)
	switch runs := c.runs.Add(1); {
	case c.path == add.path && runs > 1:
		s.tb.Errorf("call %s ran %d times", id, runs)
	case c.path == add.path && c.refused.Load():
		s.tb.Errorf("call %s ran, and its caller was told that it did not", id)
	}
	if !bytes.Equal(body, pattern(id, len(body))) {
		s.tb.Errorf("call %s came with the body of another", id)
	}
	size := rand.IntN(40 << 10)
	if rand.IntN(4) > 0 {
		size = rand.IntN(200)
	}
	answer := pattern(id, size)
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	switch rand.IntN(30) {
	case 0:
		panic(http.ErrAbortHandler)
	case 1:
		w.Header().Set("Content-Length", strconv.Itoa(size+1))
		_, _ = w.Write(answer)
		panic(http.ErrAbortHandler)
	case 2:
		time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
	case 3:
		_, _ = w.Write(answer[:size/2])
		_ = http.NewResponseController(w).Flush()
		answer = answer[size/2:]
	}
	_, _ = w.Write(answer)
}

// next is a new call.
func (s *soak) next() (id string, c *soaked) {
	id, c = strconv.FormatInt(s.ids.Add(1), 10), &soaked{path: get.path}
	if rand.IntN(2) > 0 {
		c.path = add.path
	}
	s.calls.Store(id, c)
	return id, c
}

// judge tells what is wrong with an answer. One whose call may still come late is forgotten later.
func (s *soak) judge(id string, c *soaked, status int, body []byte) {
	switch {
	case status == http.StatusOK && !bytes.Equal(body, pattern(id, len(body))):
		s.tb.Errorf("call %s got the answer of another", id)
	case status == http.StatusOK:
		s.answers.Add(1)
	case bytes.Contains(body, []byte(`"unavailable"`)):
		if c.refused.Store(true); c.path == add.path && c.runs.Load() > 0 {
			s.tb.Errorf("call %s ran, and its caller reads %s", id, body)
		}
	}
	time.AfterFunc(10*time.Second, func() { s.calls.Delete(id) })
}

// call calls over a client of net/http, and sometimes leaves.
func (s *soak) call(ctx context.Context, client *http.Client, url string) {
	id, c := s.next()
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	if rand.IntN(20) == 0 {
		time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, leave)
	}
	size := rand.IntN(200)
	if rand.IntN(8) == 0 {
		size = rand.IntN(40 << 10)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+c.path, bytes.NewReader(pattern(id, size)))
	if err != nil {
		s.tb.Error(err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Call", id)
	res, err := client.Do(req)
	if err != nil {
		return
	}
	defer func() { _ = res.Body.Close() }()
	if body, err := io.ReadAll(res.Body); err == nil {
		s.judge(id, c, res.StatusCode, body)
	}
}

// callInFrames opens a connection whose windows are small, and calls on it until one of its calls is left, or there were enough.
func (s *soak) callInFrames(ctx context.Context, addr string, window uint32) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return err
	}
	if err := framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}); err != nil {
		return err
	}
	for stream := uint32(1); stream < 60; stream += 2 {
		id, c := s.next()
		_ = conn.SetDeadline(time.Now().Add(time.Minute)) // on a busy machine there are many windows to wait for
		block.Reset()
		for _, f := range []string{":method POST", ":scheme http", ":authority a", ":path " + c.path, "content-type application/json", "call " + id} {
			name, value, _ := strings.Cut(f, " ")
			_ = encoder.WriteField(hpack.HeaderField{Name: name, Value: value})
		}
		err := errors.Join(
			framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true}),
			framer.WriteData(stream, true, pattern(id, rand.IntN(200))),
			framer.WriteWindowUpdate(stream, uint32(1+rand.IntN(100))),
		)
		if rand.IntN(20) == 0 {
			return errors.Join(err, framer.WriteRSTStream(stream, http2.ErrCodeCancel), framer.WriteData(stream, true, nil))
		}
		status, body, over := 0, []byte(nil), false
		for err == nil && !over {
			var frame http2.Frame
			if frame, err = framer.ReadFrame(); err != nil {
				break
			}
			switch f := frame.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					err = framer.WriteSettingsAck()
				}
			case *http2.MetaHeadersFrame:
				status, _ = strconv.Atoi(f.PseudoValue("status"))
				over = f.StreamEnded()
			case *http2.DataFrame:
				body, over = append(body, f.Data()...), f.StreamEnded()
				if n := len(f.Data()); n > 0 {
					err = errors.Join(framer.WriteWindowUpdate(0, uint32(n)), framer.WriteWindowUpdate(stream, uint32(1+rand.IntN(4*n))))
				}
			case *http2.RSTStreamFrame:
				over, status = true, 0
			case *http2.GoAwayFrame:
				return fmt.Errorf("GOAWAY %v %s", f.ErrCode, f.DebugData())
			}
		}
		if err != nil {
			return err
		}
		s.judge(id, c, status, body)
	}
	return nil
}

// Callers with windows of any size, who leave, and a service that resets, breaks off and starts again: no call gets what is another's,
// none that is undeclared runs twice, and none has run of which its caller hears that it did not.
// go test -race ./gateway -run Soak -soak 10m -timeout 15m
func TestSoak(t *testing.T) {
	t.Parallel()
	service, one, two := &soak{tb: t}, freeport.Addr(t), freeport.Addr(t)
	addr := serve(t, newGateway(t, "http://"+one+",http://"+two))
	ctx, stop := context.WithTimeout(t.Context(), *soakTime)
	defer stop()
	var all sync.WaitGroup
	for _, endpoint := range []string{one, two} {
		all.Go(func() {
			for ctx.Err() == nil {
				r := newReplicaOf(t, endpoint, service.ServeHTTP)
				select {
				case <-ctx.Done():
				case <-time.After(time.Duration(100+rand.IntN(400)) * time.Millisecond):
				}
				if rand.IntN(2) > 0 {
					r.kill()
				} else {
					r.remove(t)
				}
			}
		})
	}
	for _, major := range []int{1, 2} {
		client := client(t, major)
		for range 4 {
			all.Go(func() {
				for ctx.Err() == nil {
					service.call(ctx, client, "http://"+addr)
				}
			})
		}
	}
	for _, window := range []uint32{0, 1, 16 << 10} {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := service.callInFrames(ctx, addr, window); err != nil && ctx.Err() == nil {
					t.Errorf("with windows of %d bytes: %v", window, err)
					return
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d calls, %d of them answered", service.ids.Load(), service.answers.Load())
}
