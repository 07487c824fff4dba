package h2_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"holdline/internal/wire/wiretest"
)

// conversation is what one side says, from its SETTINGS on.
func conversation(fields ...string) []byte {
	var block, out bytes.Buffer
	encoder, framer := hpack.NewEncoder(&block), http2.NewFramer(&out, nil)
	for i := 0; i < len(fields); i += 2 {
		_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	head := func(id uint32, end bool) {
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end, PadLength: 3})
	}
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 20}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 100})
	_ = framer.WriteSettingsAck()
	head(1, false)
	_ = framer.WriteDataPadded(1, false, []byte("hello"), []byte{0, 0})
	_ = framer.WriteWindowUpdate(1, 100)
	_ = framer.WriteWindowUpdate(0, 100)
	_ = framer.WriteData(1, true, []byte("you"))
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block.Bytes()[:1]})
	_ = framer.WriteContinuation(3, true, block.Bytes()[1:])
	_ = framer.WriteRSTStream(3, http2.ErrCodeCancel)
	_ = framer.WritePriority(5, http2.PriorityParam{StreamDep: 3, Weight: 1})
	_ = framer.WritePing(false, [8]byte{1})
	head(7, true)
	_ = framer.WriteGoAway(7, http2.ErrCodeNo, []byte("bye"))
	return out.Bytes()
}

// talk is a connection whose other side says something, reads all, and ends; read is closed when it has read all.
func talk(sent []byte) (c net.Conn, read <-chan struct{}) {
	near, far := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, near)
	}()
	go func() {
		_, _ = near.Write(sent)
		_ = near.Close()
	}()
	return far, ended
}

// Whatever a client sends, its connection ends when it does, and nothing panics.
func FuzzServer(f *testing.F) {
	f.Add(conversation(":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/a", "trailer", "b", "expect", "100-continue", "cookie", "a=b", "cookie", "c=d"))
	f.Add(conversation(":method", "POST", ":scheme", "http", ":path", "/a", "content-length", "8", "te", "trailers"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		far, read := talk(append([]byte(http2.ClientPreface), sent...))
		_ = newServer().Serve(context.Background(), far, http.HandlerFunc(wiretest.Echo), nil)
		<-read
	})
}

// Whatever a server sends, a request ends with its connection, and nothing panics.
func FuzzClient(f *testing.F) {
	f.Add(conversation(":status", "200", "trailer", "b", "content-type", "a/b"))
	f.Add(conversation(":status", "200", "content-length", "8"))
	f.Add(conversation(":status", "103", "link", "a"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		far, read := talk(sent)
		transport := newTransport()
		dialled := false
		transport.Dial = func(context.Context, string, string) (net.Conn, error) {
			if dialled {
				return nil, net.ErrClosed
			}
			dialled = true
			return far, nil
		}
		if res, err := transport.RoundTrip(wiretest.Request(t.Context(), t, "http://a", io.MultiReader(bytes.NewReader(make([]byte, 100))))); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
		transport.CloseIdleConnections()
		<-read
	})
}
