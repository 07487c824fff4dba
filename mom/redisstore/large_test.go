package redisstore_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"holdline/internal/contract"
	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// Large answers come over connections of their own, and few at once: the replies of all other commands would wait behind them.
func TestLargeAnswersAreAside(t *testing.T) {
	t.Parallel()
	e := newEnv(t, redisstore.Config{URL: redistest.New(t).URL()}) // nobody else has connections to it
	ended := func(size int) contract.TaskID {
		id := e.add()
		e.ok(e.Settle(e.ctx, e.lease(), success(strings.Repeat("a", size))))
		return id
	}
	small, large := ended(1000), ended(1<<20)
	// ids are of the connections over which an answer came last.
	ids := func() (found []string) {
		list, err := e.do("CLIENT", "LIST").ToString()
		e.ok(err)
		for line := range strings.Lines(list) {
			if strings.Contains(line, " cmd=get ") {
				found = append(found, strings.Fields(line)[0])
			}
		}
		return found
	}
	e.wantAnswer(small, success(strings.Repeat("a", 1000)))
	common := ids()
	if len(common) != 1 {
		t.Fatalf("a small answer came over %v", common)
	}
	var readers sync.WaitGroup
	for range 40 {
		readers.Go(func() {
			if _, got, err := e.Get(e.ctx, large); err != nil || !proto.Equal(got, success(strings.Repeat("a", 1<<20))) {
				t.Errorf("got %d bytes, %v", proto.Size(got), err)
			}
		})
	}
	readers.Wait()
	if aside := ids(); len(aside) < 1 || len(aside) > 4 || slices.Contains(aside, common[0]) {
		t.Errorf("large answers came over %v, want 1 to 4 connections, and not %s", aside, common[0])
	}
}

// A lease takes few large calls, though there is room for more, and the others keep their places.
func TestLeaseOfLargeCalls(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		sized := func(size int) func(*mom.NewTask) {
			return func(task *mom.NewTask) { task.Call.Message = make([]byte, size) }
		}
		var want []contract.TaskID
		for _, size := range []int{10, 600 << 10, 600 << 10, 10, 600 << 10, 10, 2 << 20, 10} {
			want = append(want, e.add(sized(size)))
		}
		for _, n := range []int{3, 4, 1} {
			leases, more, err := e.Store.Lease(e.ctx, e.shard, mom.Room{Tasks: 10, Again: 10, Once: 10}, time.Hour)
			if err != nil || len(leases) != n || more != (len(want) > n) {
				t.Fatalf("got %d leases, more %v, %v; want %d of %d", len(leases), more, err, n, len(want))
			}
			for i, lease := range leases {
				if lease.ID != want[i] {
					t.Errorf("lease %d is of another task", i)
				}
			}
			want = want[n:]
		}
	})
}
