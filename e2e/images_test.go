package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/redistest"
	"holdline/internal/stack"
)

// Two systems with different images share a queue, as in an update. Calls are made at both under the same keys,
// in the same bytes of either codec, with fields that one of the images lacks, before the service comes and after:
// each runs once, and nobody is told that its key was used for another request, nor of anything internal.
func TestTwoImagesOnOneQueue(t *testing.T) {
	t.Parallel()
	redis, place := redistest.New(t), freeport.Addr(t)
	whole, _ := withImage(t, redis.URL(), ledgerImage(t), place)
	older, _ := withImage(t, redis.URL(), olderImage(t), place)
	l := &ledger{}
	const calls, workers = 240, 8
	work := make(chan int64, calls)
	for i := range int64(calls) {
		work <- i + 1
	}
	close(work)
	var callers sync.WaitGroup
	var half sync.WaitGroup
	half.Add(calls / 2)
	for range workers {
		callers.Go(func() {
			for amount := range work {
				tasks := map[string]bool{}
				codec := []string{"proto", "json"}[rand.IntN(2)]
				for range 4 {
					system := []*stack.Stack{whole, older}[rand.IntN(2)]
					tasks[keyedPost(t, system, codec, amount)] = true
				}
				if len(tasks) != 1 {
					t.Errorf("amount %d is %d tasks, want one: %v", amount, len(tasks), tasks)
				}
				if amount <= calls/2 {
					half.Done()
				}
			}
		})
	}
	half.Wait()
	run(t, l.serve(t, place))
	callers.Wait()
	eventually(t, func() bool { return l.posted() >= calls }, "all calls have run")
	for amount := range int64(calls) {
		if got := l.ran(amount + 1); got != 1 {
			t.Errorf("amount %d ran %d times, want once", amount+1, got)
		}
	}
}

// keyedPost makes a call under a key of its own until it is known to be a task, and returns that.
func keyedPost(tb testing.TB, s *stack.Stack, codec string, amount int64) string {
	body := asCodec(tb, codec, entry(tb, fmt.Sprintf(`amount: %d kind: KIND_CREDIT tags {key: "a" value: 1} tags {key: "b" value: 2}`, amount)))
	for tb.Context().Err() == nil {
		req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, "http://"+s.Gateway+"/"+ledgerService+"/Post", strings.NewReader(string(body)))
		if err != nil {
			tb.Error(err)
			return ""
		}
		req.Header.Set("Content-Type", "application/"+codec)
		req.Header.Set(contract.HeaderKey, fmt.Sprint("order-", amount))
		req.Header.Set(contract.HeaderPrefer, "wait=0")
		res, err := plain.Do(req)
		if err != nil {
			tb.Error(err)
			return ""
		}
		said, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		switch {
		case res.StatusCode == http.StatusOK, res.StatusCode == http.StatusAccepted:
			return res.Header.Get(contract.HeaderTask)
		case res.StatusCode != http.StatusServiceUnavailable: // which a busy machine says
			tb.Errorf("%s of amount %d: %d %s", codec, amount, res.StatusCode, said)
			return ""
		}
	}
	return ""
}
