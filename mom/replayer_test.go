package mom

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeEndpoints are healthy when a test says so. They are asked every 250 ms.
type fakeEndpoints struct {
	mu    sync.Mutex
	sick  bool
	looks int
}

// asked is how often health was asked.
func (e *fakeEndpoints) asked() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.looks
}

func (e *fakeEndpoints) set(sick bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sick = sick
}

func (e *fakeEndpoints) AwaitHealthy(ctx context.Context, goOn func() bool) bool {
	for goOn() && ctx.Err() == nil {
		e.mu.Lock()
		e.looks++
		sick := e.sick
		e.mu.Unlock()
		if !sick {
			return true
		}
		sleep(ctx, 250*time.Millisecond)
	}
	return false
}

func (e *fakeEndpoints) Ailment() string { return "test" }

// replay is a replayer whose store, endpoints and attempts are the test's, and when attempts began.
type replay struct {
	*replayer
	store     *fakeStore
	endpoints *fakeEndpoints
	stop      func()

	mu     sync.Mutex
	start  time.Time
	starts []time.Duration
}

// newReplay runs a replayer; attempt says what one comes to, and takes as long as it likes.
func newReplay(t *testing.T, store *fakeStore, endpoints *fakeEndpoints, attempt func(ctx context.Context, lease Lease) report) *replay {
	t.Helper()
	log, once := discard()
	shard := ShardOf(testID())
	r := &replay{store: store, endpoints: endpoints, start: time.Now()}
	r.replayer = &replayer{
		store: store, shard: shard, endpoints: endpoints, demand: &demand{store: store, shard: shard},
		outages: noOutages(), log: log, once: once, pace: pace{window: 1},
		attempt: func(ctx context.Context, lease Lease) report {
			r.mu.Lock()
			r.starts = append(r.starts, time.Since(r.start))
			r.mu.Unlock()
			return attempt(ctx, lease)
		},
	}
	r.stop = inBackground(t, r.Run)
	return r
}

// began is when attempts began, after the start.
func (r *replay) began() []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.starts)
}

// times repeats each duration as often as the number after it says.
func times(pairs ...any) (list []time.Duration) {
	for i := 0; i < len(pairs); i += 2 {
		at, _ := pairs[i].(time.Duration)
		n, _ := pairs[i+1].(int)
		list = append(list, slices.Repeat([]time.Duration{at}, n)...)
	}
	return list
}

func (r *replay) check(t *testing.T, what string, want []time.Duration) {
	t.Helper()
	if got := r.began(); !slices.Equal(got, want) {
		t.Errorf("%s: attempts began after %v, want %v", what, got, want)
	}
}

// answers is an attempt that is answered after some time.
func answers(after time.Duration) func(context.Context, Lease) report {
	return func(ctx context.Context, _ Lease) report {
		sleep(ctx, after)
		return report{up: true, took: after}
	}
}

// A service that is back gets one task, then two at a time, then four, as long as it answers.
func TestReplayBeginsWithACanary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const work = 100 * time.Millisecond
		store := newFakeStore()
		store.queue(testLeases(7)...)
		r := newReplay(t, store, &fakeEndpoints{}, answers(work))
		time.Sleep(time.Second)
		r.check(t, "all", times(0*work, 1, work, 2, 2*work, 4))
	})
}

// Large calls come in several leases, and as many are under way as of small ones.
func TestReplayOfLargeCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const work = 100 * time.Millisecond
		leases := testLeases(7)
		for i := range leases {
			leases[i].Size = LeaseBytes
		}
		store := newFakeStore()
		store.queue(leases...)
		r := newReplay(t, store, &fakeEndpoints{}, answers(work))
		time.Sleep(time.Second)
		r.check(t, "all", times(0*work, 1, work, 2, 2*work, 4))
	})
}

// A replayer that has nothing left to lease takes what is leased with new tasks, as long as the service is well and the replayer goes on.
func TestReplayAttends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, endpoints := newFakeStore(), &fakeEndpoints{sick: true}
		r := newReplay(t, store, endpoints, func(ctx context.Context, lease Lease) report {
			sleep(ctx, time.Second)
			return report{up: lease.PutBack == 0, took: time.Second}
		})
		check := func(when string, want bool, room int) {
			t.Helper()
			synctest.Wait()
			if attended, got := store.attends(); attended != want || got.Tasks != room {
				t.Errorf("%s: attended %v, with room for %d; want %v, %d", when, attended, got.Tasks, want, room)
			}
		}
		store.queue(testLeases(1)...)
		check("the service is sick", false, 0)
		endpoints.set(false)
		time.Sleep(300 * time.Millisecond)
		check("the window is full", false, 0)
		time.Sleep(time.Second)
		check("it is well", true, 2)
		leased := store.counted["lease"]
		store.along <- testLeases(1)
		check("one came along", true, 1)
		store.along <- []Lease{{PutBack: 1}}
		check("another one did", false, 0)
		time.Sleep(time.Second)
		if got := store.counted["lease"]; got != leased {
			t.Errorf("%d leases more, want none", got-leased)
		}
		check("one was not answered", false, 0)
		store.queue(testLeases(1)...)
		time.Sleep(2 * time.Second)
		check("it is well again", true, 2)
		go r.stop()
		check("it ends", false, 0)
		time.Sleep(time.Minute)
		if got := len(r.began()); got != 4 {
			t.Errorf("%d attempts, want 4", got)
		}
	})
}

// Nothing is sent to a service that is not healthy, nor is its health asked while it has no tasks.
func TestReplayWaitsForHealth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, endpoints := newFakeStore(), &fakeEndpoints{sick: true}
		r := newReplay(t, store, endpoints, answers(time.Millisecond))
		time.Sleep(time.Minute)
		if endpoints.asked() != 0 {
			t.Errorf("without tasks: asked for health %d times, want none", endpoints.asked())
		}
		store.queue(testLeases(1)...)
		time.Sleep(time.Minute)
		r.check(t, "while it is sick", nil)
		if endpoints.asked() == 0 {
			t.Error("with a task: nobody has asked for health")
		}
		time.Sleep(time.Millisecond)
		endpoints.set(false)
		time.Sleep(time.Second)
		r.check(t, "once it is found healthy", times(2*time.Minute+250*time.Millisecond, 1))
	})
}

// An idle replayer leaves the store alone, and a bell wakes it at once.
func TestReplayIsWokenByTheBell(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.queue(testLeases(1)...)
		r := newReplay(t, store, &fakeEndpoints{}, answers(time.Millisecond))
		time.Sleep(time.Second)
		store.times("lease")
		time.Sleep(time.Hour)
		if n := store.times("lease") + store.times("renew"); n != 0 {
			t.Errorf("while idle: asked the store %d times, want none", n)
		}
		store.queue(testLeases(1)...)
		time.Sleep(time.Second)
		r.check(t, "the second", []time.Duration{0, time.Hour + time.Second})
	})
}

// A canary that fails is followed by a rest, so that a service which fails all is not pressed.
func TestReplayRestsAfterAFailedCanary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.queue(testLeases(9)...)
		r := newReplay(t, store, &fakeEndpoints{}, func(context.Context, Lease) report { return report{} })
		time.Sleep(4*failPause - time.Millisecond)
		r.check(t, "canaries", times(0*failPause, 1, failPause, 1, 2*failPause, 1, 3*failPause, 1))
	})
}

// A service that refuses tasks for now is no failure, and gets a canary next: not one that was refused before, if that was refused again.
func TestReplayOfRefusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.queue(testLeases(7)...)
		r := newReplay(t, store, &fakeEndpoints{}, func(_ context.Context, lease Lease) report {
			return report{up: true, took: time.Millisecond, refused: lease.PutBack > 0}
		})
		time.Sleep(time.Second)
		synctest.Wait()
		if r.pace.window <= 4 {
			t.Fatalf("window: got %d, want more than 4", r.pace.window)
		}
		refused := testLeases(1)
		refused[0].PutBack = 1
		store.queue(refused...)
		time.Sleep(time.Second)
		synctest.Wait()
		if r.pace.window != 1 || !r.healthy {
			t.Errorf("after a refusal: got a window of %d, healthy %v, want 1 and healthy", r.pace.window, r.healthy)
		}
		if !r.room().Fresh {
			t.Error("after a task was refused again: such tasks may be leased, want others")
		}
		store.queue(testLeases(1)...)
		time.Sleep(time.Second)
		synctest.Wait()
		if r.room().Fresh {
			t.Error("after an answer: want the oldest task")
		}
	})
}

// Tasks that the service does not answer for long keep the others waiting for as long as our patience, and no
// longer; the next ones go in larger numbers, since these may be of another kind.
func TestReplayPassesSlowTasks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.queue(testLeases(1 + stuckStep)...)
		r := newReplay(t, store, &fakeEndpoints{}, answers(time.Minute))
		time.Sleep(patience + time.Second)
		r.check(t, "slow", times(0*patience, 1, patience, stuckStep))
	})
}

// A task that has failed before tells nothing of its service while others do well; what never failed before does.
func TestReplayBlamesTheTask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.queue(testLeases(7)...)
		r := newReplay(t, store, &fakeEndpoints{}, func(_ context.Context, lease Lease) report {
			if lease.Attempts > 0 {
				return report{}
			}
			return report{up: true, took: time.Millisecond}
		})
		time.Sleep(time.Second)
		synctest.Wait()
		before := r.pace.window
		poison := testLeases(1)
		poison[0].Attempts = 3
		store.queue(poison...)
		time.Sleep(time.Second)
		synctest.Wait()
		if r.pace.window != before || !r.healthy {
			t.Errorf("after a task that fails each time: got a window of %d, healthy %v, want %d and healthy", r.pace.window, r.healthy, before)
		}
	})
}

// Limits of the queue, and a store that is away, are asked again when it is worth it.
func TestReplayAsksAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err   error
		after time.Duration
	}{
		"limited":      {&LimitedError{Wait: 3 * time.Second}, 3 * time.Second},
		"store away":   {ErrUnavailable, failPause},
		"wrong answer": {errors.New("no script"), failPause},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newFakeStore()
				failed := false
				store.fail = func(method string) error {
					if method != "lease" || failed {
						return nil
					}
					failed = true
					return c.err
				}
				store.queue(testLeases(1)...)
				<-store.bell // nothing rings
				r := newReplay(t, store, &fakeEndpoints{}, answers(time.Millisecond))
				time.Sleep(time.Minute)
				r.check(t, "the task", []time.Duration{c.after})
			})
		})
	}
}

// A replayer that is told to end lets attempts end, sends nothing more, and cuts what takes too long.
func TestReplayDrains(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		takes, want time.Duration
	}{
		"in time":  {5 * time.Second, 5 * time.Second},
		"too long": {time.Hour, time.Second + drainTime},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newFakeStore()
				store.queue(testLeases(2)...)
				r := newReplay(t, store, &fakeEndpoints{}, answers(c.takes))
				time.Sleep(time.Second)
				r.stop()
				if took := time.Since(r.start); took != c.want {
					t.Errorf("it ended after %v, want %v", took, c.want)
				}
				r.check(t, "attempts", []time.Duration{0})
			})
		})
	}
}
