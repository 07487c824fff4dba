package redisstore_test

import (
	"fmt"
	"time"

	"pgregory.net/rapid"

	"holdline/mom"
)

// passOver lets a task wait that cannot be sent as it is.
func (m *model) passOver(lease mom.Lease, why string, wait time.Duration) (due int64, err error) {
	err = m.from(lease, func(t *modelTask) {
		if wait == 0 || t.expires <= m.now {
			m.parkUnsent(t, why)
			return
		}
		due = wait.Milliseconds() << min(t.passed, 7)
		t.state, t.failure, t.marked, t.overdue = retrying, why, false, false
		t.next = m.now + due
		t.passed++
	}, retrying, dead)
	return due, err
}

// parkUnsent parks a task, and counts no attempt.
func (m *model) parkUnsent(t *modelTask, why string) {
	m.park(t, dead, why)
	t.attempts--
}

// rouse makes tasks due that were passed over, when a MOM reaps for the first time.
func (m *model) rouse() {
	if m.roused[m.mom] {
		return
	}
	m.roused[m.mom] = true
	for _, t := range m.in(retrying) {
		if t.passed > 0 {
			t.next = m.now
		}
	}
}

func (w *world) passOver(r *rapid.T) {
	lease := pick(r, w.leases)
	wait := rapid.SampledFrom([]time.Duration{0, 100 * time.Millisecond, time.Second}).Draw(r, "wait")
	w.step(r, func(e *env) string {
		due, err := e.PassOver(e.ctx, lease, "cannot be sent", wait)
		return fmt.Sprint(due.Milliseconds(), word(err))
	}, func() string {
		due, err := w.m.passOver(lease, "cannot be sent", wait)
		return fmt.Sprint(due, word(err))
	})
}
