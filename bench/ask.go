package main

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"holdline/internal/contract"
)

// ask is what calls ask for with their headers, and so what they get.
type ask struct {
	name string // in the report
	// message is what they say; nil: the sum of 1 and 2.
	message *message
	// procedure is what is called; empty: that of the service that most is asked of.
	procedure string
	header    [][2]string
	keyed     bool // a new Idempotency-Key goes with each call
	handle    bool // the answer is a task's handle, else that of the message
	messages  int  // of an answer that is a stream; else 0
	usual     bool // a token, a deadline, and a traceparent of its own go with each call, as in most systems
}

// taskTTL is more than a measurement takes: no task expires in it.
const taskTTL = "5m"

var (
	askSum     = askUsual("sum", procedure, nil)
	askUnkeyed = askUsual("", procedure, hundred)
	askStored  = &ask{message: hundred, header: [][2]string{{contract.HeaderPrefer, "respond-async"}, {contract.HeaderTTL, taskTTL}}, handle: true}
	askHeld    = &ask{message: hundred, header: [][2]string{{contract.HeaderPrefer, "wait=30"}, {contract.HeaderTTL, taskTTL}}}
	askKeyed   = &ask{message: hundred, header: [][2]string{{contract.HeaderTTL, taskTTL}, {contract.HeaderAnswerTTL, taskTTL}}, keyed: true}
)

// askUsual asks for nothing.
func askUsual(name, procedure string, m *message) *ask {
	token := [2]string{"Authorization", "Bearer " + strings.Repeat("0123456789abcdef", 8)}
	return &ask{name: name, procedure: procedure, message: m, header: [][2]string{token}, usual: true}
}

func (a *ask) path() string { return cmp.Or(a.procedure, procedure) }

// brief tells whether a call and its answer come in one piece, mostly.
func (a *ask) brief() bool {
	const most = 8 << 10 // bytes
	m := a.says()
	return a.messages == 0 && max(len(m.connect.request), len(m.connect.answer), len(m.grpc.request), len(m.grpc.answer)) <= most
}

func (a *ask) says() *message { return cmp.Or(a.message, sum) }

// message is what calls say and what they must be told, byte by byte, in both protocols.
type message struct {
	connectType   string // Content-Type of Connect
	connect, grpc exchange
}

// exchange is the body of a request, and that of its answer.
type exchange struct{ request, answer []byte }

// sum is SumRequest{a: 1, b: 2} and SumResponse{result: 3}.
var sum = &message{
	connectType: "application/json",
	connect:     exchange{[]byte(`{"a":1,"b":2}`), []byte(`{"result":3}`)},
	grpc: exchange{
		envelope(0, []byte("\x09\x00\x00\x00\x00\x00\x00\xf0\x3f\x11\x00\x00\x00\x00\x00\x00\x00\x40")),
		envelope(0, []byte("\x09\x00\x00\x00\x00\x00\x00\x08\x40")),
	},
}

// hundred is the same sum in messages of about 100 bytes, as other queues are measured with: the numbers in JSON have
// many zeros, and those in proto come several times, where the last one counts.
var hundred = &message{
	connectType: "application/json",
	connect:     exchange{[]byte(`{"a":1.` + strings.Repeat("0", 42) + `,"b":2.` + strings.Repeat("0", 43) + `}`), sum.connect.answer},
	grpc: exchange{
		envelope(0, slices.Concat(bytes.Repeat(sum.grpc.request[5:14], 5), bytes.Repeat(sum.grpc.request[14:], 6))),
		sum.grpc.answer,
	},
}

// envelope is how gRPC, and streams of Connect, frame a message.
func envelope(flags byte, message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(message))), message...)
}

// newKey is as long as every other key.
func newKey() string { return fmt.Sprintf("bench-%016x", rand.Uint64()) }

// The deadline of usual calls, as Connect and gRPC write it.
const connectDeadline, grpcDeadline = "10000", "10S"

// traceparent begins those of usual calls, and newTrace ends them, as long as every other.
const traceparent = "00-0af7651916cd43dd8448eb21"

func newTrace() string { return fmt.Sprintf("%08x-%016x-01", rand.Uint32(), rand.Uint64()) }

// checkTask checks the task that an answer names. That no two answers name the
// same one is checked where tasks are counted.
func (a *ask) checkTask(id string) error {
	if !a.handle && !a.keyed {
		return nil // it may name one or not: a call that was held does
	}
	parsed, err := contract.ParseTaskID(id)
	if err != nil || !strings.HasPrefix(a.path(), "/"+parsed.Service+"/") {
		return fmt.Errorf("%s %q, want one of %s", contract.HeaderTask, id, a.path())
	}
	return nil
}
