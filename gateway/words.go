package gateway

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/secret"
	"holdline/internal/upstream"
)

const (
	maxNamed = 1000 // tasks that one request to a MOM names
	// maxWaiting bounds the words that no MOM has taken yet; the oldest are given up
	// for new ones.
	maxWaiting  = 100_000
	wordTimeout = time.Second
	// settleTime is how long a gateway that ends tries to say what it has to say. After
	// that a MOM that has lost its hold has cancelled the task anyway, unless its store was away.
	settleTime = 5 * time.Second
)

// words are what the gateway tells MOMs of tasks whose callers it held: many at once,
// to any MOM, until one has taken it.
type words struct {
	keep, abandon *batch
	stop          context.CancelFunc
}

func newWords(mom *upstream.Pool, shown *secret.Secret, log *slog.Logger) *words {
	var last atomic.Pointer[upstream.Endpoint]
	holds := holdsAt(func() *upstream.Endpoint { // another one than the last: that may be silent
		next := mom.Pick(last.Load())
		last.Store(next)
		return next
	}, shown)
	ctx, stop := context.WithCancel(context.Background())
	return &words{
		keep: &batch{name: "keep", ctx: ctx, log: log, send: func(ctx context.Context, ids []string) ([]string, error) {
			res, err := holds.KeepTasks(ctx, &momv1.KeepTasksRequest{Ids: ids})
			return res.GetMissing(), err
		}},
		abandon: &batch{name: "abandon", ctx: ctx, log: log, send: func(ctx context.Context, ids []string) ([]string, error) {
			_, err := holds.AbandonTasks(ctx, &momv1.AbandonTasksRequest{Ids: ids})
			return nil, err
		}},
		stop: stop,
	}
}

// close lets the last words be said, for a while. There may be no MOM.
func (w *words) close() {
	if w == nil {
		return
	}
	timer := time.AfterFunc(settleTime, w.stop)
	w.keep.close()
	w.abandon.close()
	timer.Stop()
	w.stop()
}

// batch says one thing of many tasks. What comes while a request is under way goes
// into the next one. It is safe for concurrent use.
type batch struct {
	name string
	send func(ctx context.Context, ids []string) (missing []string, err error)
	log  *slog.Logger
	ctx  context.Context //nolint:containedctx // of what runs in the background

	mu      sync.Mutex
	waiting []named
	busy    bool
	closed  bool
	work    sync.WaitGroup
}

// named is a task, and who wants to know what became of the word: false for a task
// that is not there, or when the word is given up.
type named struct {
	id   string
	told chan<- bool // with room for one; nil: nobody
}

func (n named) tell(done bool) {
	if n.told != nil {
		n.told <- done
	}
}

// add says the word of one more task.
func (b *batch) add(id string, told chan<- bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		named{id, told}.tell(false)
		return
	}
	if len(b.waiting) == maxWaiting {
		b.waiting[0].tell(false)
		b.waiting = b.waiting[1:]
	}
	b.waiting = append(b.waiting, named{id, told})
	if !b.busy {
		b.busy = true
		b.work.Go(b.run)
	}
}

// close waits until all is said, and takes nothing more.
func (b *batch) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.work.Wait()
}

// run sends until nothing waits.
func (b *batch) run() {
	for pause := firstPause; ; {
		some := b.take()
		if len(some) == 0 {
			return
		}
		ids := make([]string, len(some))
		for i, one := range some {
			ids[i] = one.id
		}
		bounded, cancel := context.WithTimeout(b.ctx, wordTimeout)
		missing, err := b.send(bounded, ids)
		cancel()
		switch {
		case err == nil:
			for _, one := range some {
				one.tell(!slices.Contains(missing, one.id))
			}
			pause = firstPause
		case b.ctx.Err() != nil:
			b.log.Warn("tasks of callers not settled", "word", b.name, "tasks", len(some), "error", err)
			for _, one := range some {
				one.tell(false)
			}
		default:
			b.log.Debug("word not taken", "word", b.name, "tasks", len(some), "error", err)
			b.giveBack(some)
			sleep(b.ctx, pause)
			pause = min(2*pause, time.Second)
		}
	}
}

// take takes as many as one request may name; with none left the run is over.
func (b *batch) take() []named {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.waiting), maxNamed)
	some := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	b.busy = n > 0
	return some
}

func (b *batch) giveBack(some []named) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = slices.Concat(some, b.waiting)
}
