package mom_test

import (
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// A call that meets the end of its key's life is a new call: it is stored, runs, and its
// caller gets the answer.
func TestKeyEndsMeanwhile(t *testing.T) {
	t.Parallel()
	for name, kept := range map[string]string{"held": "wait=300", "async": "respond-async, wait=300"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &away{records: time.Millisecond}
			client := s.start(t)
			seen := map[string]bool{}
			for range 3 {
				id := newID()
				res, info, err := ask(t.Context(), client, map[string]string{
					contract.HeaderTask: id.String(), contract.HeaderKey: "order-17", contract.HeaderPrefer: kept,
					contract.HeaderAnswerTTL: "1s", // the next call comes before it is over
				})
				got := info.ResponseHeader().Get(contract.HeaderTask)
				if err != nil || res.GetResult() != 3 || got != id.String() || seen[got] || info.ResponseHeader().Get(contract.HeaderReplayed) != "" {
					t.Errorf("got %v, %v as task %q, want the answer of a new task, %v", res, err, got, id)
				}
				seen[got] = true
				s.ends.Store(1)
			}
		})
	}
}

// Whoever meets such an end again and again is told that nothing was stored.
func TestKeyEndsForEver(t *testing.T) {
	t.Parallel()
	s := new(away)
	client := s.start(t)
	call := func() (*connect.CallInfo, error) {
		_, info, err := ask(t.Context(), client, map[string]string{contract.HeaderTask: newID().String(), contract.HeaderKey: "order-17"})
		return info, err
	}
	if _, err := call(); err != nil {
		t.Fatal(err)
	}
	s.ends.Store(100)
	info, err := call()
	if contract.ReasonOf(err) != momv1.Reason_REASON_STORE_UNAVAILABLE || info.ResponseHeader().Get(contract.HeaderTask) != "" ||
		info.ResponseHeader().Get(contract.HeaderRefused) != contract.RefusedNow {
		t.Errorf("got %v, %v, want it refused for now, and no task named", err, info.ResponseHeader())
	}
}
