package redisstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"holdline/mom"
)

// Reap implements mom.Store. If the last batch has left something to do, the next one waits for
// its turn among the shards.
func (s *Store) Reap(ctx context.Context, shard mom.Shard) (reaped mom.Reaped, err error) {
	keys := s.keys(shard)
	reap := func() (err error) {
		reaped, err = s.reap(ctx, keys)
		return err
	}
	if keys.more.Load() {
		err = s.reaps.run(ctx, reap)
	} else {
		err = reap()
	}
	keys.more.Store(err == nil && reaped.Next == 0)
	return reaped, err
}

func (s *Store) reap(ctx context.Context, keys *shardKeys) (mom.Reaped, error) {
	if !keys.counted.Load() {
		if err := s.walk(ctx, countScript, keys, "offset", "holes"); err != nil {
			return mom.Reaped{}, err
		}
		if err := s.walk(ctx, rouseScript, keys, "offset"); err != nil {
			return mom.Reaped{}, err
		}
		keys.counted.Store(true)
	}
	reply, err := s.run(ctx, reapScript, keys, args{
		"tombstone": s.tombstone(), "parked_ttl": millis(s.cfg.ParkedTTL), "max_parked_bytes": strconv.FormatInt(s.cfg.MaxParkedBytes, 10),
		"grace": millisOrNone(s.cfg.LeaseGrace), "longest_lease": millis(mom.LongestLease), "longest_backoff": millis(mom.LongestBackoff),
		"from_ttl": strconv.FormatInt(keys.fromTTL.Load(), 10), "from_later": strconv.FormatInt(keys.fromLater.Load(), 10),
	}, keys.leases.ripe(time.Now(), s.cfg.LeaseGrace)...)
	if err != nil {
		return mom.Reaped{}, err
	}
	fields, err := reply.ToArray()
	if err != nil || len(fields) != 7 {
		return mom.Reaped{}, fmt.Errorf("reap: unexpected reply: %w", err)
	}
	var counts [6]int64
	for i := range counts {
		if counts[i], err = fields[i].AsInt64(); err != nil {
			return mom.Reaped{}, fmt.Errorf("reap: %w", err)
		}
	}
	near, err := readNear(fields[6])
	if err != nil {
		return mom.Reaped{}, fmt.Errorf("reap: %w", err)
	}
	keys.fromTTL.Store(counts[4])
	keys.fromLater.Store(counts[5])
	next := time.Duration(counts[0]) * time.Millisecond
	if lease := keys.leases.see(time.Now(), s.cfg.LeaseGrace, near); lease >= 0 && (next < 0 || lease < next) {
		next = lease
	}
	return mom.Reaped{Next: next, GivenUp: counts[1], Parked: s.parked(counts[2], counts[3])}, nil
}

// readNear reads the leases that reap.lua asks to watch.
func readNear(reply rueidis.RedisMessage) ([]nearLease, error) {
	fields, err := reply.ToArray()
	if err != nil || len(fields)%3 != 0 {
		return nil, fmt.Errorf("unexpected reply: %d fields of leases: %w", len(fields), err)
	}
	near := make([]nearLease, 0, len(fields)/3)
	for triple := range slices.Chunk(fields, 3) {
		left, err := triple[2].AsInt64()
		if err != nil {
			return nil, err
		}
		ulid, _ := triple[0].ToString()
		end, _ := triple[1].ToString()
		near = append(near, nearLease{ulid, end, time.Duration(left) * time.Millisecond})
	}
	return near, nil
}

// walk runs a script over a whole list, in parts, when a MOM starts. The last MOM of a rolling
// update does so too. So the calls of all tasks that an older release has parked get counted, and
// tasks that another MOM could not send are due at once. Each part gets the numbers that the part before has returned,
// as arguments of these names. The first number is the place to go on from, -1 at the end.
func (s *Store) walk(ctx context.Context, sc *script, keys *shardKeys, names ...string) error {
	numbers := make([]int64, len(names))
	step := func() (err error) {
		given := make(args)
		for i, name := range names {
			given[name] = strconv.FormatInt(numbers[i], 10)
		}
		numbers, err = s.numbers(ctx, sc, keys, len(names), given)
		return err
	}
	err := step()
	for err == nil && numbers[0] >= 0 {
		err = s.reaps.run(ctx, step)
	}
	return err
}

// parked describes the parked tasks of a shard, and how much of their time or room is used up.
func (s *Store) parked(bytes, oldest int64) mom.Parked {
	p := mom.Parked{Bytes: bytes, Oldest: time.Duration(oldest) * time.Millisecond}
	p.Share = max(float64(p.Bytes)/float64(s.cfg.MaxParkedBytes), float64(p.Oldest)/float64(s.cfg.ParkedTTL))
	return p
}

// leaseWatch notes since when each lease near its end was not renewed, by the clock of this
// process. If the clock of Redis is set ahead, all leases are over at once, even those that their
// holders still renew.
type leaseWatch struct {
	mu   sync.Mutex
	seen map[string]seenLease // by ULID
}

// seenLease has the end of a lease by the clock of Redis, and the time since which we have seen the lease with that end.
type seenLease struct {
	end   string
	since time.Time
}

// ripe lists ULID and end of each lease that was not renewed for the time grace.
func (w *leaseWatch) ripe(now time.Time, grace time.Duration) (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ulid, lease := range w.seen {
		if now.Sub(lease.since) >= grace {
			list = append(list, ulid, lease.end)
		}
	}
	return list
}

// nearLease is a lease that is over soon, after left. If left is not positive, the lease is over.
type nearLease struct {
	ulid, end string
	left      time.Duration
}

const (
	// watchPause is the minimum time between two looks at a lease.
	watchPause = time.Millisecond
	// strangerPause is the same for a lease that this process cannot end, since only a newer
	// release can read the task.
	strangerPause = time.Second
)

// see gets all leases that are near their end. It returns the time until one of them may be over;
// negative when there is none.
func (w *leaseWatch) see(now time.Time, grace time.Duration, near []nearLease) (next time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next = -1
	seen := make(map[string]seenLease, len(near))
	for _, lease := range near {
		known, ok := w.seen[lease.ulid]
		if !ok || known.end != lease.end {
			known = seenLease{end: lease.end, since: now}
		}
		seen[lease.ulid] = known
		wait := max(lease.left, grace-now.Sub(known.since), watchPause)
		if lease.left <= 0 && now.Sub(known.since) >= max(grace, watchPause) {
			wait = strangerPause
		}
		if next < 0 || wait < next {
			next = wait
		}
	}
	w.seen = seen
	return next
}
