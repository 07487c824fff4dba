package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"connectrpc.com/connect/v2"

	"holdline/client"
	arithmeticv1 "holdline/gen/arithmetic/v1"
	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	"holdline/internal/load"
)

const (
	callPause   = 50 * time.Millisecond  // between the calls of one caller
	repeatPause = 100 * time.Millisecond // before a call is sent again
	callTimeout = 20 * time.Second       // of one try: longer than a hold
	giveUp      = 2 * time.Minute        // of a call
	readers     = 16
)

// task is a call that was accepted.
type task struct {
	id   string
	want float64
}

// caller makes calls of one kind, one after the other. Its methods are all
// repeatable, so it may send a call again that nobody answered.
type caller struct {
	name    string
	held    bool // it waits for the answer of a call that is stored
	headers func(n int) map[string]string
	call    func(ctx context.Context, a, b float64) (got, want float64, err error)
}

// callersOf returns a caller for each service and way of calling, who speak
// different protocols.
func callersOf(clients []*connect.Client) []caller {
	start := strconv.FormatInt(time.Now().UnixNano(), 36)
	ways := []struct {
		name    string
		held    bool
		headers func(n int) map[string]string
	}{
		{"plain", true, func(int) map[string]string { return nil }},
		{"hasty", false, func(int) map[string]string { return map[string]string{"Prefer": "wait=0"} }},
		{"keyed", true, func(n int) map[string]string {
			return map[string]string{"Idempotency-Key": fmt.Sprintf("load-%s-%d", start, n)}
		}},
		{"async", false, func(n int) map[string]string {
			return map[string]string{"Idempotency-Key": fmt.Sprintf("load-%s-%d", start, n), "Prefer": "respond-async"}
		}},
	}
	var list []caller
	for i, way := range ways {
		sum := arithmeticv1connect.NewSumServiceClient(clients[i%len(clients)])
		subtraction := arithmeticv1connect.NewSubtractionServiceClient(clients[(i+1)%len(clients)])
		multiplication := arithmeticv1connect.NewMultiplicationServiceClient(clients[(i+2)%len(clients)])
		list = append(list,
			caller{way.name + " sum", way.held, way.headers, func(ctx context.Context, a, b float64) (float64, float64, error) {
				res, err := sum.Sum(ctx, &arithmeticv1.SumRequest{A: a, B: b})
				return res.GetResult(), a + b, err
			}},
			caller{way.name + " subtraction", way.held, way.headers, func(ctx context.Context, a, b float64) (float64, float64, error) {
				res, err := subtraction.Subtract(ctx, &arithmeticv1.SubtractRequest{A: a, B: b})
				return res.GetResult(), a - b, err
			}},
			caller{way.name + " multiplication", way.held, way.headers, func(ctx context.Context, a, b float64) (float64, float64, error) {
				res, err := multiplication.Multiply(ctx, &arithmeticv1.MultiplyRequest{A: a, B: b})
				return res.GetResult(), a * b, err
			}},
		)
	}
	return list
}

// clientsOf returns a client of each protocol.
func clientsOf(server string) (list []*connect.Client) {
	for _, name := range []string{"connect/proto/h1", "grpc/proto/h2c", "grpcweb/proto/h1"} {
		wire := load.Named(name)
		list = append(list, wire.Client(wire.Transport(), server))
	}
	return list
}

// run calls until calling ends; a call under way may go on until answering does.
func (c *caller) run(calling, answering context.Context, number int, b *book, accepted chan<- task) {
	for n := 0; load.Pause(calling, callPause); n++ {
		c.once(answering, number*1_000_000+n, b, accepted)
	}
}

// once makes a call, and sends it again until it is answered or accepted.
func (c *caller) once(ctx context.Context, n int, b *book, accepted chan<- task) {
	ctx, cancel := context.WithTimeout(ctx, giveUp)
	defer cancel()
	for started := time.Now(); ; {
		got, want, err := c.try(ctx, n)
		switch reply := load.ReplyOf(err); reply {
		case load.Answered:
			b.done(started, reply, c.held)
			if got != want {
				b.lose("%s %d: got %v, want %v", c.name, n, got, want)
			}
			return
		case load.Handle:
			b.done(started, reply, c.held)
			accepted <- task{client.TaskFrom(err).GetId(), want}
			return
		default:
			b.again(c.name, reply, err)
		}
		if !load.Pause(ctx, repeatPause) {
			b.lose("%s %d: no answer in %v, at last %v", c.name, n, giveUp, err)
			return
		}
	}
}

func (c *caller) try(ctx context.Context, n int) (got, want float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ctx, info := connect.NewClientContext(ctx)
	for key, value := range c.headers(n) {
		info.RequestHeader().Set(key, value)
	}
	return c.call(ctx, float64(n%1000), float64(n%7)+0.5)
}

// readAll reads the answers of accepted calls, until there are no more of them.
func readAll(ctx context.Context, tasks *client.Tasks, b *book, accepted <-chan task) {
	for t := range accepted {
		for {
			got, err := read(ctx, tasks, t.id)
			if err == nil && got == t.want {
				b.answer()
				break
			}
			if err == nil {
				b.lose("task %s: got %v, want %v", t.id, got, t.want)
				break
			}
			// Reading is repeatable; what says that there is no answer is final.
			var rpcErr *connect.Error
			if !errors.As(err, &rpcErr) || connect.CodeOf(err) == connect.CodeNotFound || !load.Pause(ctx, repeatPause) {
				b.lose("task %s: %v", t.id, err)
				break
			}
		}
	}
}

// read reads an answer; the three services answer with the same field.
func read(ctx context.Context, tasks *client.Tasks, id string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, answer, err := tasks.Wait(ctx, id, nil)
	if err != nil {
		return 0, err
	}
	message, err := answer.GetMessage().UnmarshalNew()
	if err != nil {
		return 0, fmt.Errorf("ended without an answer: %v", answer.GetError())
	}
	sum, ok := message.(interface{ GetResult() float64 })
	if !ok {
		return 0, fmt.Errorf("an answer of type %T", message)
	}
	return sum.GetResult(), nil
}
