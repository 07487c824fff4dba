package redisstore

import (
	"container/list"
	"context"
	"errors"
	"sync"
)

// How many commands may be on their way to Redis at once. Few, because a command that is on
// its way cannot be taken back, while one that still waits for a place can: its caller hears
// that it surely was not sent. Enough all the same to keep a Redis busy that is a few
// milliseconds away.
const (
	callerPlaces = 128
	// upkeepPlaces are for reaping, renewing, cancelling and counting: a thousand callers who
	// leave do not keep others from storing, nor the other way round.
	upkeepPlaces = 32
	// maxWaiting bounds those who wait for one of either. Redis serves as many in a third of a
	// second, which is what they are given.
	maxWaiting = 8192
)

// errCrowded says that others, who came later, are served sooner than this one could be.
var errCrowded = errors.New("too many commands wait")

// places are a number of commands that may be on their way at once. When all are taken, the
// next free one goes to whoever came last: that one has the most time left. First come, first
// served would, with more to do than Redis can, serve each just as its time is up. It is safe
// for concurrent use.
type places struct {
	mu      sync.Mutex
	free    int
	waiting list.List // of *waiter, the latest in front
}

type waiter struct {
	done chan struct{} // closed once it is decided
	err  error         // nil: the place is the waiter's
}

func newPlaces(n int) *places { return &places{free: n} }

// shares keep upkeep and the rest from crowding each other out.
type shares struct{ callers, upkeep *places }

func newShares() shares { return shares{newPlaces(callerPlaces), newPlaces(upkeepPlaces)} }

func (s shares) of(sc *script) *places {
	if sc.upkeep {
		return s.upkeep
	}
	return s.callers
}

// take waits for a place until ctx ends. Whoever gets nil gives the place back.
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
