package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"strings"

	"holdline/internal/contract"
)

// ask is what calls ask for with their headers, and so what they get.
type ask struct {
	// procedure is what is called; empty: that of the service that most is asked of.
	procedure string
	header    [][2]string
	keyed     bool // a new Idempotency-Key goes with each call
	handle    bool // the answer is a task's handle, else it is the sum
	usual     bool // a token, a deadline, and a traceparent of its own go with each call, as in most systems
}

// taskTTL is more than a measurement takes: no task expires in it.
const taskTTL = "5m"

var (
	askSum    = &ask{usual: true, header: [][2]string{{"Authorization", "Bearer " + strings.Repeat("0123456789abcdef", 8)}}}
	askStored = &ask{header: [][2]string{{contract.HeaderPrefer, "respond-async"}, {contract.HeaderTTL, taskTTL}}, handle: true}
	askHeld   = &ask{header: [][2]string{{contract.HeaderPrefer, "wait=30"}, {contract.HeaderTTL, taskTTL}}}
	askKeyed  = &ask{header: [][2]string{{contract.HeaderTTL, taskTTL}, {contract.HeaderAnswerTTL, taskTTL}}, keyed: true}
)

func (a *ask) path() string { return cmp.Or(a.procedure, procedure) }

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
