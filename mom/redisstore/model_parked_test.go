package redisstore_test

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"holdline/internal/contract"
	"holdline/mom"
)

// giveUp ends the wait of a parked task for a person; its state stays.
func (m *model) giveUp(t *modelTask) {
	m.dead = without(m.dead, t)
	t.until = m.now + m.tombstone
	m.gone[t.id] = t.until
}

func (m *model) dismiss(id contract.TaskID) error {
	t := m.tasks[id]
	switch {
	case t == nil:
		return mom.ErrNotFound
	case t.state != dead && t.state != uncertain:
		return mom.ErrTaskState
	case t.until == 0:
		m.giveUp(t)
	}
	t.dismissed = cmp.Or(t.dismissed, m.now)
	return nil
}

func (m *model) retry(id contract.TaskID) error {
	t := m.tasks[id]
	switch {
	case t == nil:
		return mom.ErrNotFound
	case t.state != dead && t.state != uncertain:
		return mom.ErrTaskState
	case t.until > 0:
		return mom.ErrCallDropped
	}
	m.dead = without(m.dead, t)
	t.earlier += t.attempts
	t.state, t.attempts, t.order, t.expires = queued, 0, m.now*1000, m.now+t.life
	t.failure, t.ended, t.overdue, t.passed = "", 0, false, 0
	m.ready = append(m.ready, t)
	return nil
}

func (m *model) retryDead(too bool) (n int64) {
	for _, t := range slices.Clone(m.dead) {
		if t.state == dead || too {
			_ = m.retry(t.id) // it is in dead
			n++
		}
	}
	return n
}

// parked tells of the tasks that wait for a person.
func (m *model) parked() (p mom.Parked) {
	if len(m.dead) == 0 {
		return p
	}
	for _, t := range m.dead {
		p.Bytes += size(t)
	}
	oldest := max(m.now-m.dead[0].ended, 0)
	p.Oldest = time.Duration(oldest) * time.Millisecond
	p.Share = max(float64(p.Bytes)/float64(m.maxParked), float64(oldest)/float64(m.parkedTTL))
	return p
}

// size is what a task's call takes.
func size(t *modelTask) int64 { return int64(proto.Size(t.call)) }
