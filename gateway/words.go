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
	// maxWaiting is the maximum number of words that no MOM has taken yet; beyond that, new words replace the oldest.
	maxWaiting  = 100_000
	wordTimeout = time.Second
	// settleTime is how long a gateway that ends still tries to send its words. After
	// that a MOM that has lost its hold has cancelled the task anyway, unless its store was away.
	settleTime = 5 * time.Second
)

// words are messages to the MOMs about tasks whose callers the gateway held: keep the task, or abandon it. A request has many of them.
// It goes to any MOM, again and again until a MOM has taken it.
type words struct {
	keep, abandon *batch
	stop          context.CancelFunc
}

func newWords(mom *upstream.Pool, shown *secret.Secret, log *slog.Logger) *words {
	var last atomic.Pointer[upstream.Endpoint]
	holds := holdsAt(func() *upstream.Endpoint { // another MOM than last time, which may be silent
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

// close waits for settleTime at most until the last words are sent. w is nil without a MOM.
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

// batch sends the same word about many tasks. Words that come while a request is under way go
// into the next request. It is safe for concurrent use.
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

// named is a task, and a channel for the result of its word: true once a MOM has taken the word; false if the MOM has no such task,
// or the word is given up.
type named struct {
	id   string
	told chan<- bool // with room for one; nil: nobody
}

func (n named) tell(done bool) {
	if n.told != nil {
		n.told <- done
	}
}

// add sends the word for one more task.
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

// close waits until all words are sent. Later words are given up.
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

// take takes as many words as one request may have. If it takes none, the run is over.
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
