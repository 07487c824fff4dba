package redisstore_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// A large answer whose reply stops midway does not keep its place for ever.
func TestLargeAnswerThatStops(t *testing.T) {
	t.Parallel()
	_, socket, _ := strings.Cut(redistest.Start(t), "://")
	var stops atomic.Bool
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	go func() {
		for {
			near, err := proxy.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", socket)
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
			go func() {
				defer func() { _ = near.Close() }()
				part, sum := make([]byte, 64<<10), 0
				for {
					n, err := far.Read(part)
					if err != nil {
						return
					}
					_, _ = near.Write(part[:n])
					if stops.Load() {
						sum += n
					}
					if sum > len(part) { // more than small replies have
						<-end
						return
					}
				}
			}()
		}
	}()
	e := newEnv(t, redisstore.Config{URL: "redis://" + proxy.Addr().String()})
	id, want := e.add(), success(strings.Repeat("a", 1<<20))
	e.ok(e.Settle(e.ctx, e.lease(), want))
	stops.Store(true)
	for range 4 {
		ctx, cancel := context.WithTimeout(e.ctx, 300*time.Millisecond)
		if _, _, err := e.Get(ctx, id); !errors.Is(err, mom.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		cancel()
	}
	stops.Store(false)
	until(t, "a large answer is read again", func() bool {
		_, got, err := e.Get(e.ctx, id)
		return err == nil && proto.Equal(got, want)
	})
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
