package redisstore_test

import (
	"cmp"
	"maps"
	"slices"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/mom"
)

const leaseEnded = "lease ended after the call was sent"

// model does what the store promises of one shard. Times are milliseconds. It has no batches, so
// the test must keep it below a hundred tasks.
type model struct {
	now       int64
	dropped   int64 // when a key last expired by itself: the clock is not set back before that
	tombstone int64
	max       int
	parkedTTL int64 // ms
	maxParked int64 // bytes
	// linger is 1 where a key is still there in the millisecond of its expiry:
	// in Redis, not in miniredis.
	linger int64

	tasks       map[contract.TaskID]*modelTask
	ready, dead []*modelTask
	paused      bool
	// Ended tasks by the end of their records, until reaped; a caller's list has
	// them for as long.
	gone map[contract.TaskID]int64
	// Ends of leases that each MOM has seen to be over.
	seen   [2]map[contract.TaskID]int64
	roused [2]bool // it has reaped before
	mom    int     // which of the two MOMs acts
}

type modelTask struct {
	id                 contract.TaskID
	state              momv1.TaskState
	epoch              int64
	attempts, earlier  int
	marked, kept, lost bool
	offer              int64
	repeatable         bool
	call               *momv1.Call
	key, print         string
	failure            string
	created, expires   int64
	life, answerLife   int64
	order              int64 // µs
	lease, next        int64 // of a running task, of a retrying one
	ended, answerUntil int64 // 0: not yet
	dismissed          int64 // 0: never
	until              int64 // the end of its record; 0: not known yet
	overdue            bool  // it ran when its TTL ended, and may finish
	passed             int   // times passed over in a row
	answer             *momv1.Answer
	settled            bool // its record stays until it is reaped
}

// pass changes the time. Redis drops by itself what has expired.
func (m *model) pass(to int64) {
	m.now = to
	for id, t := range m.tasks {
		if t.until > 0 && !t.settled && m.over(t.until) {
			delete(m.tasks, id)
			m.dropped = m.now
		}
		if t.answer != nil && m.over(t.answerUntil) {
			t.answer = nil
			m.dropped = m.now
		}
	}
}

func (m *model) over(until int64) bool { return m.now >= until+m.linger }

// in lists tasks in one of the states.
func (m *model) in(states ...momv1.TaskState) (list []*modelTask) {
	for _, t := range m.tasks {
		if slices.Contains(states, t.state) {
			list = append(list, t)
		}
	}
	return list
}

func (m *model) open() []*modelTask { return m.in(queued, running, retrying) }

// add adds the nth task of a turn.
func (m *model) add(task mom.NewTask, nth int64) (mom.Added, error) {
	old := m.tasks[task.ID]
	if t := old; t != nil && (t.state != cancelled || !t.lost) {
		t.kept = t.kept || task.Kept
		t.offer = max(t.offer, task.Offer)
		return mom.Added{ID: t.id, ExpireTime: time.UnixMilli(t.expires)}, nil
	}
	for _, t := range m.tasks {
		if task.KeyHash == "" || t.key != task.KeyHash {
			continue
		}
		if t.print != task.Fingerprint {
			return mom.Added{}, mom.ErrKeyReused
		}
		return mom.Added{ID: t.id, Attached: true}, nil
	}
	if len(m.open()) >= m.max {
		return mom.Added{}, mom.ErrQueueFull
	}
	t := &modelTask{
		id: task.ID, state: queued, kept: task.Kept, repeatable: task.Repeatable, call: task.Call,
		key: task.KeyHash, print: task.Fingerprint, created: m.now, expires: m.now + task.TTL.Milliseconds(),
		life: task.TTL.Milliseconds(), answerLife: task.AnswerTTL.Milliseconds(), order: m.now*1000 + nth, offer: task.Offer,
	}
	if old != nil {
		t.epoch = old.epoch
		if at := slices.Index(m.ready, old); at >= 0 {
			m.ready[at] = t // beside its place at the tail; the second one is skipped
		}
		delete(m.gone, t.id)
	}
	m.tasks[t.id] = t
	m.ready = append(m.ready, t)
	return mom.Added{ID: t.id, ExpireTime: time.UnixMilli(t.expires)}, nil
}

// end ends a task for good. Its record stays for keep milliseconds. If it is in ready, it stays
// there and is skipped.
func (m *model) end(t *modelTask, state momv1.TaskState, keep int64) {
	t.state, t.ended, t.until, t.marked, t.next = state, m.now, m.now+keep, false, 0
	m.gone[t.id] = t.until
	m.dead = without(m.dead, t)
}

func (m *model) park(t *modelTask, state momv1.TaskState, failure string) {
	t.state, t.ended, t.marked, t.next = state, m.now, false, 0
	t.attempts++
	t.failure = failure
	m.dead = append(m.dead, t)
}

// giveBack queues a task before those that came after it.
func (m *model) giveBack(t *modelTask) {
	t.state, t.marked, t.next, t.overdue = queued, false, 0, false
	at := slices.IndexFunc(m.ready, func(other *modelTask) bool { return m.tasks[other.id] != nil && other.order > t.order })
	if at < 0 {
		at = len(m.ready)
	}
	m.ready = slices.Insert(m.ready, at, t)
}

func (m *model) leaseTasks(room mom.Room, d time.Duration) (taken []*modelTask) {
	if m.paused {
		return nil
	}
	take := func(t *modelTask) {
		t.state, t.lease = running, m.now+d.Milliseconds()
		t.marked = t.repeatable
		taken = append(taken, t)
	}
	var passed []*modelTask
	for len(taken) < room.Tasks && len(m.ready) > 0 {
		t := m.ready[0]
		m.ready = m.ready[1:]
		switch {
		case t.state != queued:
		case t.expires <= m.now:
			m.end(t, expired, m.tombstone)
		case t.attempts > 0 && room.Again < 1, !t.repeatable && room.Once < 1:
			passed = append(passed, t)
		default:
			if t.attempts > 0 {
				room.Again--
			}
			if !t.repeatable {
				room.Once--
			}
			take(t)
		}
	}
	failed := func(t *modelTask) bool { return t.attempts > 0 && (t.repeatable || room.Once > 0) }
	if at := slices.IndexFunc(passed, failed); at >= 0 && len(taken) == 0 {
		take(passed[at])
		passed = slices.Delete(passed, at, at+1)
	}
	m.ready = append(passed, m.ready...)
	return taken
}

// held finds the task of a lease, unless the lease is lost.
func (m *model) held(lease mom.Lease) *modelTask {
	if t := m.tasks[lease.ID]; t != nil && t.epoch == lease.Epoch {
		return t
	}
	return nil
}

// from runs a transition of a leased task. In the states of done, the transition was made before.
func (m *model) from(lease mom.Lease, transition func(t *modelTask), done ...momv1.TaskState) error {
	t := m.held(lease)
	switch {
	case t == nil:
		return mom.ErrFenced
	case slices.Contains(done, t.state):
		return nil
	case t.state != running:
		return mom.ErrFenced
	}
	transition(t)
	return nil
}

func (m *model) renew(lease mom.Lease, d time.Duration) error {
	return m.from(lease, func(t *modelTask) { t.lease = m.now + d.Milliseconds() })
}

func (m *model) mark(lease mom.Lease) error {
	if lease.Repeatable {
		return nil
	}
	return m.from(lease, func(t *modelTask) { t.marked = true })
}

func (m *model) settle(lease mom.Lease, answer *momv1.Answer) error {
	return m.from(lease, func(t *modelTask) {
		if t.marked {
			t.attempts++
		}
		t.answer, t.answerUntil = answer, m.now+t.answerLife
		state := succeeded
		if answer.GetError() != nil {
			state = failed
		}
		m.end(t, state, t.answerLife+m.tombstone)
		t.settled = true
	}, succeeded, failed)
}

func (m *model) release(lease mom.Lease) error {
	return m.from(lease, func(t *modelTask) {
		if t.expires <= m.now {
			m.end(t, expired, m.tombstone)
			return
		}
		m.giveBack(t)
	}, queued, expired)
}

func (m *model) spend(lease mom.Lease, failure string, backoff time.Duration, most int) (momv1.TaskState, error) {
	err := m.from(lease, func(t *modelTask) {
		switch {
		case t.attempts+1 >= most:
			m.park(t, dead, failure)
		case t.expires <= m.now:
			t.attempts++
			t.failure = failure
			m.end(t, expired, m.tombstone)
		default:
			t.attempts++
			t.state, t.failure, t.marked, t.overdue, t.passed = retrying, failure, false, false, 0
			t.next = m.now + backoff.Milliseconds()
		}
	}, retrying, dead, expired)
	if err != nil {
		return momv1.TaskState_TASK_STATE_UNSPECIFIED, err
	}
	return m.tasks[lease.ID].state, nil
}

func (m *model) parkLease(lease mom.Lease, failure string) error {
	return m.from(lease, func(t *modelTask) { m.park(t, uncertain, failure) }, uncertain)
}

func (t *modelTask) unsent() bool {
	return t.attempts == 0 && (t.state == queued || t.state == retrying || t.state == running && !t.marked)
}

// drop cancels a task. In ready it is also past its TTL, for releases that do not skip ended tasks.
func (m *model) drop(t *modelTask) {
	if t.state == queued {
		t.expires = min(t.expires, m.now)
	}
	m.end(t, cancelled, m.tombstone)
}

func (m *model) cancel(id contract.TaskID) error {
	t := m.tasks[id]
	switch {
	case t == nil:
		return mom.ErrNotFound
	case t.state == cancelled:
		return nil
	case t.state == dead || t.state == uncertain:
		return m.dismiss(id)
	case !t.unsent():
		return mom.ErrTaskState
	}
	m.drop(t)
	return nil
}

func (m *model) abandon(left mom.Departure) {
	t := m.tasks[left.ID]
	if t != nil && t.unsent() && !t.kept && (!left.Lost || t.offer == left.Offer) {
		t.lost = left.Lost
		m.drop(t)
	}
}

// keep returns the number of missing tasks: 1 when this one is missing or cancelled, else 0.
func (m *model) keep(id contract.TaskID) int {
	t := m.tasks[id]
	if t == nil || t.state == cancelled {
		return 1
	}
	t.kept = true
	return 0
}

func (m *model) pause(paused bool) {
	m.paused = paused
}

// due lists tasks whose time has come, earliest first.
func (m *model) due(tasks []*modelTask, at func(*modelTask) int64) []*modelTask {
	tasks = slices.DeleteFunc(tasks, func(t *modelTask) bool { return at(t) > m.now })
	slices.SortFunc(tasks, func(a, b *modelTask) int {
		return cmp.Or(cmp.Compare(at(a), at(b)), a.id.ULID.Compare(b.id.ULID))
	})
	return tasks
}

func (m *model) reap() (reaped mom.Reaped) {
	m.rouse()
	for _, t := range m.due(m.open(), (*modelTask).endOfLife) {
		switch {
		case t.state == running:
			t.overdue = true
		case t.state == retrying && t.passed > 0:
			m.parkUnsent(t, t.failure)
		default:
			m.end(t, expired, m.tombstone)
		}
	}
	if len(m.open()) == 0 {
		m.ready = nil
	}
	for len(m.ready) > 0 && m.ready[0].state != queued {
		m.ready = m.ready[1:]
	}
	for _, t := range m.in(running) {
		t.lease = min(t.lease, m.now+mom.LongestLease.Milliseconds())
	}
	seen := map[contract.TaskID]int64{}
	for _, t := range m.due(m.in(running), func(t *modelTask) int64 { return t.lease }) {
		if end, ok := m.seen[m.mom][t.id]; !ok || end != t.lease {
			seen[t.id] = t.lease
			continue
		}
		if t.marked && !t.repeatable {
			m.park(t, uncertain, leaseEnded)
			continue
		}
		if t.marked {
			t.attempts++
			t.failure = leaseEnded
		}
		if t.expires <= m.now {
			m.end(t, expired, m.tombstone)
		} else {
			m.giveBack(t)
		}
	}
	m.seen[m.mom] = seen
	for _, t := range m.in(retrying) {
		t.next = min(t.next, m.now+mom.LongestBackoff.Milliseconds())
	}
	for _, t := range m.due(m.in(retrying), func(t *modelTask) int64 { return t.next }) {
		m.giveBack(t)
	}
	for len(m.dead) > 0 && (m.dead[0].ended+m.parkedTTL <= m.now || m.parked().Bytes > m.maxParked) {
		m.giveUp(m.dead[0])
		reaped.GivenUp++
	}
	reaped.Parked = m.parked()
	maps.DeleteFunc(m.gone, func(id contract.TaskID, until int64) bool {
		if until <= m.now {
			delete(m.tasks, id)
		}
		return until <= m.now
	})
	least := int64(-1)
	if len(m.ready) > 0 {
		least = 60000
	}
	for _, at := range m.times() {
		if wait := max(at-m.now, 1); least < 0 || wait < least {
			least = wait
		}
	}
	for _, until := range m.gone {
		if wait := max(until-m.now, 1000); least < 0 || wait < least {
			least = wait
		}
	}
	if len(m.dead) > 0 {
		if wait := max(m.dead[0].ended+m.parkedTTL-m.now, 1000); least < 0 || wait < least {
			least = wait
		}
	}
	reaped.Next = time.Duration(least) * time.Millisecond
	return reaped
}

// endOfLife is when the store ends the life of an open task; never when the task is past it and
// still runs.
func (t *modelTask) endOfLife() int64 {
	if t.overdue {
		return 1 << 62
	}
	return t.expires
}

// times lists the times at which something is due.
func (m *model) times() (times []int64) {
	for _, t := range m.open() {
		if !t.overdue {
			times = append(times, t.expires)
		}
		switch t.state {
		case running:
			times = append(times, t.lease)
		case retrying:
			times = append(times, t.next)
		}
	}
	return times
}

func without(list []*modelTask, t *modelTask) []*modelTask {
	return slices.DeleteFunc(list, func(other *modelTask) bool { return other == t })
}
