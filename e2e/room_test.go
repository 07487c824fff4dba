package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/redistest"
	"holdline/internal/stack"
)

// At the very limit of what a gateway takes, header by header and byte by byte, a call is stored or refused by the gateway itself.
func TestLargestHeadersStoredToTheByte(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + freeport.Addr(t)}})
	for _, name := range []string{"grpc/proto/h2c", "connect/json/h2c", "connect/json/h1"} {
		w := wireOf(name)
		client := w.client(t, s.Gateway)
		stored, refused := 0, 0
		for bytes := 64<<10 - 700; bytes < 64<<10+400; bytes += 16 {
			_, err := w.call(t, client, "Post", 1, cookie(bytes), "Prefer: wait=0")
			switch reason := contract.ReasonOf(err); {
			case reason == momv1.Reason_REASON_CALL_STORED:
				stored++
			case reason != momv1.Reason_REASON_UNSPECIFIED || err == nil:
				t.Errorf("%s, %d bytes of headers: got %v, want it stored", name, bytes, err)
			default:
				refused++ // the gateway does not take it
			}
		}
		if stored < 5 || name != "connect/json/h1" && refused == 0 {
			t.Errorf("%s: %d were stored and %d refused, want both", name, stored, refused)
		}
	}
}

// Headers that take more bytes when they are written again are stored all the same.
func TestHeadersWithoutBlanksStored(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + freeport.Addr(t)}})
	conn, err := net.Dial("tcp", s.Gateway)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	const message = `{"amount":"1"}`
	_, err = fmt.Fprintf(conn, "POST /%s/Post HTTP/1.1\nHost:x\nContent-Type:application/json\nPrefer:wait=0\nConnection:close\nContent-Length:%d\n%s\n%s",
		ledgerService, len(message), strings.Repeat("a:b\n", 15<<10), message)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusAccepted {
		t.Errorf("got %d %s, want 202", res.StatusCode, body)
	}
}

// Headers that a gateway takes and no MOM are named as the reason why a call cannot be stored.
func TestHeadersTooLargeForTheMOM(t *testing.T) {
	t.Parallel()
	ownSystem(t)
	bin, mom, addr := build(t), freeport.Addr(t), freeport.Addr(t)
	known := []string{"--route", ledgerService + "=http://" + freeport.Addr(t), "--schema", ledgerImage(t)}
	start(t, bin, append([]string{"mom", "--listen", mom, "--redis", redistest.New(t).URL(), "--max-header-bytes", "4096"}, known...)...)
	start(t, bin, append([]string{"gateway", "--listen", addr, "--mom", "http://" + mom}, known...)...)
	awaitReady(t, mom)
	awaitReady(t, addr)
	for _, w := range wires() {
		for asked, want := range map[string]momv1.Reason{
			"Prefer: wait=5":             momv1.Reason_REASON_CALL_NOT_STORABLE,
			"Prefer: respond-async":      momv1.Reason_REASON_HEADERS_TOO_LARGE,
			"Idempotency-Key: " + w.name: momv1.Reason_REASON_HEADERS_TOO_LARGE,
		} {
			code := connect.CodeUnavailable
			if want == momv1.Reason_REASON_HEADERS_TOO_LARGE {
				code = connect.CodeInvalidArgument
			}
			_, err := w.call(t, w.client(t, addr), "Post", 1, cookie(40<<10), asked)
			if contract.ReasonOf(err) != want || connect.CodeOf(err) != code || !strings.Contains(err.Error(), "bytes of headers") {
				t.Errorf("%s, %s: got %v, want %v", w.name, asked, err, want)
			}
		}
	}
}
