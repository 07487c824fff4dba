package mom

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"holdline/internal/contract"
	"holdline/internal/logonce"
)

const (
	// lapseTime is how long a hold whose connection was lost may be taken up again,
	// by any gateway at any MOM, before its caller counts as gone. A gateway offers
	// a call again at once when it has lost its MOM.
	lapseTime = 5 * time.Second
	// lapseTries is how long we try to write departures to the store. We do not try longer: while the store cannot be reached,
	// gateways cannot have tasks kept, and may have given out handles of these tasks.
	lapseTries = 5 * time.Second
	// keptTime is how long lapses.keep remembers a task. After that time, the task of a hold that was lost after the gateway's request is cancelled, or never will be.
	keptTime = 2 * (lapseTime + lapseTries)
	// abandonPause is the time to the next try after the store did not take departures.
	abandonPause = 250 * time.Millisecond
)

// lapseStore is what lapses need of the store.
type lapseStore interface {
	// Abandon cancels tasks of one shard whose callers left without a handle, if
	// the tasks were never sent and are not kept. It works in batches: after an
	// error some tasks may be cancelled. Its cost does not grow with the queue.
	Abandon(ctx context.Context, shard Shard, left []Departure) error
}

// lapses are the holds of this MOM whose connections were lost. It is safe for
// concurrent use.
type lapses struct {
	store lapseStore
	once  *logonce.Logger

	mu    sync.Mutex
	lost  []lapse                       // in the order in which their graces end
	kept  map[contract.TaskID]time.Time // tasks that must not be cancelled, though the store does not know that, and since when
	added chan struct{}
}

// lapse is a hold whose connection was lost.
type lapse struct {
	Departure
	over time.Time // the end of its grace
}

func newLapses(store lapseStore, once *logonce.Logger) *lapses {
	return &lapses{store: store, once: once, kept: map[contract.TaskID]time.Time{}, added: make(chan struct{}, 1)}
}

// add begins the grace of a hold.
func (l *lapses) add(id contract.TaskID, offer int64) {
	l.mu.Lock()
	l.lost = append(l.lost, lapse{Departure{ID: id, Lost: true, Offer: offer}, time.Now().Add(lapseTime)})
	l.mu.Unlock()
	nudge(l.added)
}

// keep remembers tasks that must not be cancelled when their holds are lost: a gateway has asked for this, and the store could not be written.
// When the store can be written again, the gateway may be gone.
func (l *lapses) keep(ids []contract.TaskID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget()
	for _, id := range ids {
		l.kept[id] = time.Now()
	}
}

// forget forgets tasks that were remembered for longer than keptTime. mu is held.
func (l *lapses) forget() {
	maps.DeleteFunc(l.kept, func(_ contract.TaskID, since time.Time) bool { return time.Since(since) > keptTime })
}

// Run abandons the tasks of holds whose grace is over. Once ctx has ended it waits for the graces that
// have begun.
func (l *lapses) Run(ctx context.Context) error {
	ending, work := ctx.Done(), context.WithoutCancel(ctx)
	for {
		due, next := l.due()
		err := abandon(work, l.store, departures(due))
		if err != nil {
			l.giveBack(due, err)
			next = abandonPause
		}
		if ending == nil && (err != nil || next == 0) {
			return nil //nolint:nilerr // it is logged; tasks that the store does not cancel now stay, and may run
		}
		var wait <-chan time.Time
		if next > 0 {
			wait = time.After(next)
		}
		select {
		case <-wait:
		case <-l.added:
		case <-ending:
			ending = nil
		}
	}
}

// due takes the lapses whose grace is over, and returns how long the grace of the next lapse still
// lasts; 0 when there is none.
func (l *lapses) due() (due []lapse, next time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.lost) > 0 {
		if next = time.Until(l.lost[0].over); next > 0 {
			return due, next
		}
		if _, kept := l.kept[l.lost[0].ID]; !kept {
			due = append(due, l.lost[0])
		}
		l.lost = l.lost[1:]
	}
	l.lost = nil
	l.forget() // here, and not for each lost hold: there may be thousands of holds and of kept tasks
	return due, 0
}

// giveBack puts lapses before the others, so that they are tried again, unless they were tried for longer than lapseTries.
func (l *lapses) giveBack(due []lapse, why error) {
	again := slices.DeleteFunc(due, func(one lapse) bool { return time.Since(one.over) > lapseTries })
	if left := len(due) - len(again); left > 0 {
		l.once.Warn("left", "callers lost, tasks not cancelled: they stay, and may run", "tasks", left, "error", why)
	}
	if len(again) > 0 {
		l.once.Warn("lapses", "callers lost, tasks not cancelled yet", "tasks", len(again), "error", why)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = slices.Concat(again, l.lost)
}

func departures(due []lapse) []Departure {
	gone := make([]Departure, len(due))
	for i, one := range due {
		gone[i] = one.Departure
	}
	return gone
}

// abandon has the store cancel the tasks of callers who are gone, shard by shard.
func abandon(ctx context.Context, store lapseStore, gone []Departure) error {
	byShard := map[Shard][]Departure{}
	for _, one := range gone {
		shard := ShardOf(one.ID)
		byShard[shard] = append(byShard[shard], one)
	}
	for shard, some := range byShard {
		if err := store.Abandon(ctx, shard, some); err != nil {
			return err
		}
	}
	return nil
}
