package h1_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"holdline/internal/wire"
	"holdline/internal/wire/wiretest"
)

// begin begins a plain call on a connection whose server will answer so, and then close it.
func begin(tb testing.TB, answer []byte) wire.Exchange {
	tb.Helper()
	return beginAndStay(tb, answer, nil)
}

// beginAndStay has the server close the connection when over is closed.
func beginAndStay(tb testing.TB, answer []byte, over <-chan struct{}) wire.Exchange {
	tb.Helper()
	near, far := net.Pipe()
	transport := newTransport(tb)
	transport.Dial = func(context.Context, string, string) (net.Conn, error) { return near, nil }
	go func() {
		defer func() { _ = far.Close() }()
		reader := bufio.NewReader(far)
		for _, answer := range [][]byte{[]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), answer} {
			req, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = far.Write(answer)
		}
		if over != nil {
			<-over
		}
	}()
	if _, err := wiretest.Try(tb, transport, "http://a"); err != nil {
		tb.Fatal(err)
	}
	x := transport.Begin(&wire.Request{Authority: "a", Path: "/a", Header: []hpack.HeaderField{{Name: "x-a", Value: "b"}}, Body: []byte("hi")})
	if x == nil {
		tb.Fatal("there was no connection")
	}
	return x
}

// headerOf is fields as net/http has them.
func headerOf(fields []hpack.HeaderField) http.Header {
	header := http.Header{}
	for _, f := range fields {
		header.Add(f.Name, f.Value)
	}
	return header
}

// checkAnswer compares an answer to a plain call with what net/http takes it for.
func checkAnswer(tb testing.TB, answer []byte) (plain bool) {
	tb.Helper()
	x := begin(tb, answer)
	var got *http.Response
	var err error
	if res := x.Whole(nil, 0); res != nil {
		got = &http.Response{StatusCode: res.Status, Header: headerOf(res.Header), Body: io.NopCloser(bytes.NewReader(res.Body))}
		plain = true
		x.End()
	} else {
		got, err = x.Await(tb.Context(), wire.Informed(tb.Context()))
	}
	var body []byte
	if err == nil {
		body, err = io.ReadAll(got.Body)
		_ = got.Body.Close()
	}
	want, wantErr := (*http.Response)(nil), error(nil)
	reader := bufio.NewReader(bytes.NewReader(answer))
	for range wire.MaxInformational {
		if want, wantErr = http.ReadResponse(reader, nil); wantErr != nil || want.StatusCode >= 200 || want.StatusCode == http.StatusSwitchingProtocols {
			break
		}
		if want.StatusCode < http.StatusContinue { // which net/http can read, but not write
			wantErr = errors.New("a status below 100")
			break
		}
	}
	var wantBody []byte
	if wantErr == nil && want.StatusCode != http.StatusSwitchingProtocols {
		wantBody, wantErr = io.ReadAll(want.Body)
	}
	if plain {
		for _, key := range []string{"Keep-Alive", "Connection"} { // those of one connection
			got.Header.Del(key)
			want.Header.Del(key)
		}
	}
	switch {
	case plain && (wantErr != nil || want.Close), (err == nil) != (wantErr == nil):
		tb.Errorf("%.300q: plain: %t, error %v, and by net/http %v", answer, plain, err, wantErr)
	case err == nil && (got.StatusCode != want.StatusCode || !reflect.DeepEqual(got.Header, want.Header) || !bytes.Equal(body, wantBody)):
		tb.Errorf("%.300q: got %d %v %q, and by net/http %d %v %q", answer, got.StatusCode, got.Header, body, want.StatusCode, want.Header, wantBody)
	}
	return plain
}

var answers = []struct {
	answer string
	plain  bool
}{
	{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\nx-a:c\r\n\r\nhi", true},
	{"HTTP/1.1 200\r\nContent-Length: 0\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\n", true},
	{"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0a\r\n0123456789\r\n0\r\n\r\n", true},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n0\r\n\r\n", false},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nWeight: 1\r\n\r\n", false},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhi\r\n0\r\n\r\n", false},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nhi\r\n0\r\n\r\n", false},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000000002\r\nhi\r\n0\r\n\r\n", false},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n", false},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhi", false},
	{"HTTP/1.1 200 OK\r\n\r\nhi", false},
	{"HTTP/1.1 200 \nX:\r\nContent-Length: 0\r\n\r\n", false},
	{"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", false},
	{"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nhi", true},
	{"HTTP/1.1 499 \r\nContent-Length: 2\r\n\r\nhi", true},
	{"HTTP/1.1 503 No \x01\r\nContent-Length: 2\r\n\r\nhi", false},
	{"HTTP/1.1 000 No\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false},
	{"HTTP/1.1 40 No\r\nContent-Length: 2\r\n\r\nhi", false},
	{"HTTP/1.1 4x4 No\r\nContent-Length: 2\r\n\r\nhi", false},
	{"HTTP/1.1  404 No\r\nContent-Length: 2\r\n\r\nhi", false},
	{"HTTP/1.1 302 Found\r\nContent-Length: 2\r\n\r\nhi", false},
	{"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", false},
	{"HTTP/1.1 204 No Content\r\n\r\n", false},
	{"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", false},
	{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", false},
	{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi", false},
	{"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nhi", false},
	{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTrailer: X\r\n\r\nhi", false},
	{"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false},
	{"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat("a", 5000), true},
	{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: " + strings.Repeat("a", 9000) + "\r\n\r\n", false},
	{"\x00\x00\x12\x04\x00\x00\x00\x00\x00", false},
	{"", false},
}

// What is taken for a plain answer net/http takes for the same; and cut anywhere, it is never taken for whole.
func TestAnswersAsNetHTTP(t *testing.T) {
	t.Parallel()
	for _, c := range answers {
		if plain := checkAnswer(t, []byte(c.answer)); plain != c.plain {
			t.Errorf("%.200q: plain: %t, want %t", c.answer, plain, c.plain)
		}
		for cut := range min(len(c.answer), 200) {
			checkAnswer(t, []byte(c.answer[:cut]))
		}
	}
}

// Nobody waits for more of an answer that net/http would take for whole, or refuse, since its lines end in a bare LF.
func TestBareBreaks(t *testing.T) {
	t.Parallel()
	for answer, whole := range map[string]bool{
		"HTTP/1.1 200 OK\nContent-Length: 0\n\n":                       true,
		"HTTP/1.1 200 OK\r\nX: a\nContent-Length: 0\r\n\n":             true,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\n\n":   false,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nhi\n": false,
	} {
		over := make(chan struct{})
		x := beginAndStay(t, []byte(answer), over)
		if res := x.Whole(nil, 0); res != nil {
			t.Errorf("%q is taken for plain", answer)
		}
		res, err := x.Await(t.Context(), wire.Informed(t.Context()))
		if err != nil {
			t.Fatalf("%q: %v", answer, err)
		}
		if _, err = io.ReadAll(res.Body); (err == nil) != whole {
			t.Errorf("%q: got %v", answer, err)
		}
		_ = res.Body.Close()
		close(over)
	}
}

func FuzzAnswers(f *testing.F) {
	for _, c := range answers {
		f.Add([]byte(c.answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) { checkAnswer(t, answer) })
}

// The wait for a plain answer ends when there is news, and at its time; and the exchange goes on.
func TestPlainWaits(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}, 4), make(chan struct{}, 4)
	transport, url := over(t, func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-answer
		_, _ = io.WriteString(w, "ok")
	})
	answer <- struct{}{}
	if _, err := wiretest.Try(t, transport, url); err != nil {
		t.Fatal(err)
	}
	<-asked
	for _, c := range []struct {
		news chan struct{}
		most time.Duration
	}{{make(chan struct{}, 1), 0}, {nil, 10 * time.Millisecond}, {nil, 50 * time.Millisecond}} {
		x := transport.Begin(&wire.Request{Authority: "a", Path: "/a"})
		if x == nil {
			t.Fatal("there was no connection")
		}
		<-asked
		if c.news != nil {
			c.news <- struct{}{}
		}
		if res := x.Whole(c.news, c.most); res != nil || x.HeadCame() {
			t.Errorf("got %v", res)
		}
		answer <- struct{}{}
		res, err := x.Await(t.Context(), wire.Informed(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); string(body) != "ok" || err != nil {
			t.Errorf("got %q, %v", body, err)
		}
	}
}
