package gateway_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	engine "holdline/internal/wire"
)

// A stream that is refused while its caller is silent is opened again at once, and
// what the caller sent before and sends later arrives whole.
func TestStreamIsOpenedAgain(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 5, 60 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			opening := make([]byte, size)
			_, _ = rand.Read(opening)
			got := make(chan []byte, 1)
			echo := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusOK)
				_ = http.NewResponseController(w).Flush()
				body, _ := io.ReadAll(r.Body)
				got <- body
			}))
			refusing := newFaulty(t, refusedStream)
			// Both see calls; the one that refuses never answers any.
			url := frontMOM(t, "http://"+refusing.addr+",http://"+echo)
			for range 4 {
				body, caller := io.Pipe()
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					_, _ = caller.Write(opening)
				}()
				res, err := client(t, 2).Do(request(t, url+watch.path, body, "Content-Type: application/grpc"))
				if err != nil {
					t.Fatal(err)
				}
				<-sent
				_, _ = io.WriteString(caller, "and more")
				_ = caller.Close()
				_, err = io.ReadAll(res.Body)
				_ = res.Body.Close()
				if res.StatusCode != http.StatusOK || res.Header.Get("Grpc-Status") != "" || err != nil {
					t.Fatalf("caller read %s, %v, %v", res.Status, res.Header, err)
				}
				if whole := <-got; !bytes.Equal(whole, append(bytes.Clone(opening), "and more"...)) {
					t.Fatalf("service got %d bytes, want the opening of %d and 8 more", len(whole), size)
				}
			}
		})
	}
}

// What was sent of a stream that is refused late is no longer at hand.
func TestLongOpeningIsNotSentAgain(t *testing.T) {
	t.Parallel()
	var late fault
	late.act = func(x *exchange) { refusedStream.act(x) } // once it has all of it
	service := newFaulty(t, late)
	got := grpc.call(t, client(t, 2), frontMOM(t, "http://"+service.addr), method{path: watch.path, stream: true, size: 100 << 10})
	if got.what != again {
		t.Errorf("caller read %q, want %q", got.what, again)
	}
	if seen := service.seen(); seen != "1/1" {
		t.Errorf("service saw %s requests begun/whole, want 1/1", seen)
	}
}

// A silent caller hears that its service is gone.
func TestSilentCallerHears(t *testing.T) {
	t.Parallel()
	const words = faultService + " " // has not taken the call, or did not answer: a race
	gone := fault{early: true, act: (*exchange).close}
	for _, m := range []method{watch, schemaless} {
		t.Run("HTTP1/"+m.name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", strings.TrimPrefix(frontMOM(t, "http://"+newFaulty(t, gone).addr), "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
			_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: service\r\nContent-Type: application/connect+json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\x00\r\n", m.path)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if answer, err := io.ReadAll(res.Body); !strings.Contains(string(answer), words) || err != nil {
				t.Errorf("caller read %q, %v, want it to name %q", answer, err, words)
			}
		})
		t.Run("h2c/"+m.name, func(t *testing.T) {
			t.Parallel()
			body, caller := io.Pipe()
			defer func() { _ = caller.Close() }()
			go func() { _, _ = caller.Write([]byte("\x00")) }()
			url := frontMOM(t, "http://"+newFaulty(t, gone).addr)
			res, err := client(t, 2).Do(request(t, url+m.path, body, "Content-Type: application/grpc"))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if answer := res.Trailer.Get("Grpc-Message"); !strings.Contains(answer, words) {
				t.Errorf("caller read %q, want it to name %q", answer, words)
			}
		})
	}
}

// A silent caller hears that its own deadline is over, from a silent service.
func TestSilentCallerHearsOfItsDeadline(t *testing.T) {
	t.Parallel()
	conn, err := net.Dial("tcp", strings.TrimPrefix(frontMOM(t, "http://"+newFaulty(t, fault{}).addr), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: service\r\nContent-Type: application/connect+json\r\n"+
		"Connect-Timeout-Ms: 200\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\x00\r\n", watch.path)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(res.Body); !strings.Contains(string(answer), "deadline_exceeded") || err != nil {
		t.Errorf("caller read %q, %v, want deadline_exceeded", answer, err)
	}
}

// A service may run a stream before there is a message of it. So one that breaks it off is not asked again, nor is another one, and the caller hears that the call may
// have run.
func TestStreamThatMayHaveRun(t *testing.T) {
	t.Parallel()
	if engine.DefaultEngine.IsNetHTTP() {
		t.Skip("net/http does not say whether it has written the headers of a stream")
	}
	for _, major := range []int{1, 2} {
		for _, m := range []method{watch, schemaless} {
			var runs atomic.Int64
			breaks := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.URL.Path == m.path {
					runs.Add(1)
					panic(http.ErrAbortHandler)
				}
			})
			url := frontMOM(t, "http://"+serve(t, breaks)+",http://"+serve(t, breaks))
			body, caller := io.Pipe()
			res, err := client(t, major).Do(request(t, url+m.path, body, "Content-Type: application/connect+json"))
			if err != nil {
				t.Fatal(err)
			}
			got := hear(res)
			_ = caller.Close()
			if got.what != unclear || runs.Load() != 1 {
				t.Errorf("HTTP/%d, %s: got %s, and it ran %d times; want %s, and once", major, m.name, got.what, runs.Load(), unclear)
			}
		}
	}
}
