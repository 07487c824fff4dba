package mom

import "time"

const (
	maxWindow = 64 // tasks of a shard under way at once
	// lowWindow is a number of tasks so small that an attempt takes as long as it would alone.
	lowWindow = 2
	// tolerance and slack are how much longer attempts may take when more of them
	// are under way. If they take even longer, the service is busy, and its live callers come first.
	tolerance = 1.25
	slack     = time.Millisecond
	// stuckStep is the factor by which the window grows when nothing is answered.
	stuckStep = 4
	// weight of one attempt in the averages.
	weight = 8
)

// pace decides how many tasks a replayer has under way: the window. The window begins with one canary and
// grows by one with each answer, so that it doubles in the time of an attempt, until
// answers take longer because of it. Then the window halves, and grows in small steps. So a queue that
// drains uses only spare capacity of the service, and live traffic keeps the larger share.
// The window halves with each failure as well: a service that fails a few of many tasks gets
// many tasks at a time, a service that fails half of them gets one or two, and a service that fails all
// of them gets canaries.
type pace struct {
	window int
	base   time.Duration // average time of an attempt with few others
	recent time.Duration // average time of the last attempts
	eased  bool          // answers took longer at some time
	step   int           // answers since the window changed
	doubt  bool          // nothing was answered since an attempt failed
	silent int           // how often it was stuck since something was answered
}

// reset begins again with a canary.
func (p *pace) reset() { *p = pace{window: 1} }

// failed learns from an attempt that was not answered.
func (p *pace) failed() { p.window, p.step, p.doubt = max(p.window/2, 1), 0, true }

// stuck is called when a healthy service has answered nothing for patience: the
// tasks that it has may be slow ones, and the next tasks may be quick. The window grows in
// large steps, since such steps are rare. It does not grow if attempts have failed.
func (p *pace) stuck() {
	p.silent++
	if !p.doubt {
		p.window, p.step = min(stuckStep*p.window, maxWindow), 0
	}
}

// room returns how many tasks may be sent beside those that are under way. At most half of the tasks that keep a place,
// and half of all, may be tasks that have failed before; so the canary has never failed before. While a service answers nothing,
// each step allows only one more task that may not run twice: if the service hangs, these tasks become UNCERTAIN.
func (p *pace) room(under counts) Room {
	room := Room{Tasks: min(p.window-under.placed, maxBusy-under.all)}
	room.Again = max(min(p.window/2-under.placedAgain, maxBusy/2-under.again), 0)
	if room.Once = room.Tasks; p.silent > 0 {
		room.Once = max(p.silent+1-under.once, 0)
	}
	return room
}

// answered learns from an attempt that was answered; took is the time of the attempt.
func (p *pace) answered(took time.Duration) {
	p.recent = average(p.recent, took)
	if p.window <= lowWindow {
		p.base = average(p.base, took)
	}
	p.base = min(p.base, p.recent)
	p.step++
	p.doubt, p.silent = false, 0
	switch slow := p.recent > time.Duration(tolerance*float64(p.base))+slack; {
	case slow && p.step >= p.window:
		p.window, p.eased, p.step = max(p.window/2, lowWindow), true, 0
	case slow:
	case !p.eased, p.step >= p.window:
		p.window, p.step = min(p.window+1, maxWindow), 0
	}
}

func average(so, now time.Duration) time.Duration {
	if so == 0 {
		return now
	}
	return so + (now-so)/weight
}
