package redisstore

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// How many commands may be under way to Redis at once. There are few places, because a command
// that is under way cannot be taken back, while a command that still waits for a place can: its caller
// learns that it was not sent. The places are enough to keep a Redis busy that is a few milliseconds
// away.
const (
	callerPlaces = 128
	// upkeepPlaces are for reaping, renewing, cancelling and counting. When a thousand callers
	// leave, that does not delay those who store calls, nor the other way round.
	upkeepPlaces = 32
	// answerPlaces are for large answers. Each takes Redis and its connection a few milliseconds.
	answerPlaces = 4
	// maxWaiting bounds how many commands wait for places of one kind. Redis serves as many in a
	// third of a second, which is about as long as they may wait.
	maxWaiting = 8192
)

// errCrowded says that too many commands have come later, and are served before this one.
var errCrowded = errors.New("too many commands wait")

// places limit how many commands are under way at once. When all are taken, the next free place
// goes to the command that came last, since it has the most time left. If the oldest came first,
// an overloaded Redis would get each command just as its time is up. places are safe for
// concurrent use.
type places struct {
	most    time.Duration // for how long a command may wait for its place and its reply
	mu      sync.Mutex
	free    int
	waiting list.List // of *waiter, the latest in front
}

type waiter struct {
	done chan struct{} // closed once it is decided
	err  error         // nil: the place is the waiter's
}

func newPlaces(n int, most time.Duration) *places { return &places{free: n, most: most} }

// shares has separate places for upkeep, for large answers and for the rest, so that none crowds another out.
type shares struct{ callers, upkeep, answers *places }

// newShares returns places for commands that may take so long.
func newShares(most time.Duration) shares {
	return shares{newPlaces(callerPlaces, most), newPlaces(upkeepPlaces, most), newPlaces(answerPlaces, max(most, answerTime))}
}

func (s shares) of(sc *script) *places {
	if sc.upkeep {
		return s.upkeep
	}
	return s.callers
}

// take waits for a place until ctx ends. If it returns nil, the caller must give the place back.
func (p *places) take(ctx context.Context) error {
	p.mu.Lock()
	if p.free > 0 {
		p.free--
		p.mu.Unlock()
		return nil
	}
	w := &waiter{done: make(chan struct{})}
	place := p.waiting.PushFront(w)
	if p.waiting.Len() > maxWaiting {
		p.decide(p.waiting.Back(), errCrowded)
	}
	p.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-w.done: // just now
		if w.err == nil {
			p.pass()
		}
	default:
		p.waiting.Remove(place)
	}
	return ctx.Err()
}

// give gives a place back.
func (p *places) give() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pass()
}

func (p *places) pass() {
	if latest := p.waiting.Front(); latest != nil {
		p.decide(latest, nil)
		return
	}
	p.free++
}

func (p *places) decide(place *list.Element, err error) {
	w := p.waiting.Remove(place).(*waiter)
	w.err = err
	close(w.done)
}

// bounded returns a context that ends with ctx, or sooner if a command may not take so long.
func (p *places) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if until, ok := ctx.Deadline(); ok && time.Until(until) <= p.most {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, p.most)
}
