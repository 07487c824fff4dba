package redisstore_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

const (
	benchCallers = 64 // busy at once
	benchLot     = 16 // tasks in a lease
)

// BenchmarkTask stores, leases and ends tasks of 100 bytes, many at once. It tells what each step costs here, and
// what it costs Redis in CPU time.
func BenchmarkTask(b *testing.B) {
	e := newEnv(b, redisstore.Config{URL: redistest.New(b).URL(), MaxQueued: 1 << 30, MaxBytes: 1 << 40})
	payload := []byte(strings.Repeat("x", 100))
	add := func(int) { e.add(func(task *mom.NewTask) { task.Call.Message = payload }) }
	lease := func(n int) (leases []mom.Lease) {
		for len(leases) < n {
			some, err := e.Lease(e.ctx, e.shard, min(benchLot, n-len(leases)), time.Hour)
			if e.ok(err); len(some) == 0 {
				b.Fatal("too few tasks")
			}
			leases = append(leases, some...)
		}
		return leases
	}
	measure := func(b *testing.B, step func()) {
		b.Helper()
		b.ReportAllocs()
		before := e.cpu()
		b.ResetTimer()
		step()
		b.StopTimer()
		b.ReportMetric(float64((e.cpu()-before).Microseconds())/float64(b.N), "redis-µs/op")
	}
	b.Run("lease of none", func(b *testing.B) { // a turn that does nothing
		measure(b, func() {
			for range b.N {
				leases, err := e.Lease(e.ctx, e.shard, 1, time.Hour)
				if e.ok(err); len(leases) > 0 {
					b.Fatal("there are tasks")
				}
			}
		})
	})
	b.Run("add", func(b *testing.B) {
		measure(b, func() { each(b.N, add) })
	})
	b.Run("add and lease", func(b *testing.B) {
		room := mom.Room{Tasks: benchCallers, Again: benchCallers, Once: benchCallers}
		e.Attend(e.shard, true, room)
		defer e.Attend(e.shard, false, mom.Room{})
		ctx, cancel := context.WithCancel(e.ctx)
		var replay sync.WaitGroup
		replay.Go(func() {
			for ctx.Err() == nil {
				_, more, _ := e.Await(ctx, e.shard, time.Hour)
				for more && ctx.Err() == nil {
					_, more, _ = e.Store.Lease(ctx, e.shard, room, time.Hour)
				}
			}
		})
		measure(b, func() { each(b.N, add) })
		cancel()
		replay.Wait()
	})
	b.Run("lease", func(b *testing.B) {
		each(b.N, add)
		measure(b, func() { lease(b.N) })
	})
	b.Run("settle", func(b *testing.B) {
		each(b.N, add)
		leases := lease(b.N)
		measure(b, func() { each(b.N, func(i int) { e.ok(e.Settle(e.ctx, leases[i], success("done"))) }) })
	})
}

// each calls do n times, benchCallers at once.
func each(n int, do func(i int)) {
	var group sync.WaitGroup
	for first := range benchCallers {
		group.Go(func() {
			for i := first; i < n; i += benchCallers {
				do(i)
			}
		})
	}
	group.Wait()
}

// cpu is the CPU time of Redis so far.
func (e *env) cpu() (all time.Duration) {
	e.t.Helper()
	info, err := e.do("INFO", "cpu").ToString()
	e.ok(err)
	for _, name := range []string{"used_cpu_user:", "used_cpu_sys:"} {
		_, after, _ := strings.Cut(info, name)
		text, _, _ := strings.Cut(after, "\r")
		seconds, err := strconv.ParseFloat(text, 64)
		e.ok(err)
		all += time.Duration(seconds * float64(time.Second))
	}
	return all
}
