package load_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"connectrpc.com/grpchealth"

	arithmeticv1 "holdline/gen/arithmetic/v1"
	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/load"
	"holdline/internal/server"
	"holdline/internal/server/servertest"
)

// sums answers, refuses what is infinite, and stores what is not to be answered at once.
type sums struct{}

// Sum implements arithmeticv1connect.SumServiceHandler.
func (sums) Sum(_ context.Context, req *arithmeticv1.SumRequest) (*arithmeticv1.SumResponse, error) {
	switch sum := req.GetA() + req.GetB(); {
	case math.IsInf(sum, 0):
		return nil, connect.NewError(connect.CodeOutOfRange, "too much")
	case sum < 0:
		detail, err := connectproto.NewErrorDetail(&momv1.TaskHandle{Id: "task"})
		if err != nil {
			return nil, err
		}
		return nil, connect.NewError(connect.CodeDeadlineExceeded, "stored").WithDetail(detail)
	default:
		return &arithmeticv1.SumResponse{Result: sum}, nil
	}
}

// Each wire carries each reply.
func TestRepliesOnEachWire(t *testing.T) {
	t.Parallel()
	rpc := connect.NewServer()
	arithmeticv1connect.RegisterSumServiceHandler(rpc, sums{})
	addr, stop := servertest.Run(t, server.Config{Handler: server.Mux(rpc, grpchealth.NewStaticChecker())})
	wires := load.Wires()
	ask := func(w load.Wire, a float64) load.Reply {
		transport := w.Transport()
		defer transport.CloseIdleConnections()
		_, err := arithmeticv1connect.NewSumServiceClient(w.Client(transport, addr)).Sum(t.Context(), &arithmeticv1.SumRequest{A: a, B: 1})
		return load.ReplyOf(err)
	}
	for _, w := range wires {
		for a, want := range map[float64]load.Reply{1: load.Answered, -2: load.Handle, math.Inf(1): load.Refused} {
			if got := ask(w, a); got != want {
				t.Errorf("%s: %v and 1: got %v, want %v", w.Name, a, got, want)
			}
		}
	}
	stop()
	for _, w := range wires {
		if got := ask(w, 1); got != load.Broken {
			t.Errorf("%s without a server: got %v, want %v", w.Name, got, load.Broken)
		}
	}
}

// gRPC has no HTTP/1.1; all else there is.
func TestWires(t *testing.T) {
	t.Parallel()
	var names []string
	for _, w := range load.Wires() {
		names = append(names, w.Name)
		if w.HTTP2 != strings.HasSuffix(w.Name, "/h2c") || load.Named(w.Name).HTTP2 != w.HTTP2 {
			t.Errorf("%s: HTTP2 is %v", w.Name, w.HTTP2)
		}
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) != 14 || slices.Contains(names, "grpc/proto/h1") {
		t.Errorf("got %v, want 14 wires", names)
	}
}

// A pause ends with its context.
func TestPause(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	if !load.Pause(ctx, time.Nanosecond) {
		t.Error("a pause ended before its time")
	}
	cancel(errors.New("enough"))
	if load.Pause(ctx, time.Hour) {
		t.Error("a pause went on after its context had ended")
	}
}
