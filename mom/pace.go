package mom

import "time"

const (
	maxWindow = 64 // tasks of a shard under way at once
	// lowWindow is so few tasks that an attempt takes as long as it would without the others.
	lowWindow = 2
	// tolerance and slack are how much longer attempts may take with more of them
	// under way: beyond that the service is busy, and its live callers come first.
	tolerance = 1.25
	slack     = time.Millisecond
	// stuckStep is by how much the window grows when nothing is answered.
	stuckStep = 4
	// weight of one attempt in the averages.
	weight = 8
)

// pace is how many tasks a replayer has under way. It begins with one canary and
// grows by one with each answer, so that it doubles in the time of an attempt, until
// answers take longer for it; then it halves, and goes on by small steps. So a queue that
// drains takes what a service has to spare, and live traffic keeps the larger share.
// It halves with each failure as well: a service that fails a few of many tasks is sent
// many, one that fails half of them gets one or two at a time, and one that fails all
// of them gets canaries.
type pace struct {
	window int
	base   time.Duration // of an attempt with few others, on average
	recent time.Duration // of the last ones, on average
	eased  bool          // answers took longer at some time
	step   int           // answers since the window changed
	doubt  bool          // nothing was answered since an attempt failed
	silent int           // how often it was stuck since something was answered
}

// reset begins again with a canary.
func (p *pace) reset() { *p = pace{window: 1} }

// failed learns from an attempt that was not answered.
func (p *pace) failed() { p.window, p.step, p.doubt = max(p.window/2, 1), 0, true }

// stuck learns that a service that is healthy has answered nothing in the time of patience: the
// tasks that it has may be of a slow kind, and the next ones of another. The window grows in
// large steps, as there are few of them; not at all when attempts have failed.
func (p *pace) stuck() {
	p.silent++
	if !p.doubt {
		p.window, p.step = min(stuckStep*p.window, maxWindow), 0
	}
}

// room is what may go beside those that are under way. At most half of those that keep a place,
// and half of all, may have failed before, so the canary has not. While a service answers nothing,
// only one more that may not run twice goes each time: they would be lost if it hangs.
func (p *pace) room(under counts) Room {
	room := Room{Tasks: min(p.window-under.placed, maxBusy-under.all)}
	room.Again = max(min(p.window/2-under.placedAgain, maxBusy/2-under.again), 0)
	if room.Once = room.Tasks; p.silent > 0 {
		room.Once = max(p.silent+1-under.once, 0)
	}
	return room
}

// answered learns from an attempt that was answered after so long.
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
