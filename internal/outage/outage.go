// Package outage logs that a service is down. However many calls fail, it writes a few lines: when
// an outage begins, every 30 s while it lasts, and when it is over.
package outage

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Every is the time between two lines about an outage. If a service has two outages within
	// this time, the beginning of the second one is not logged.
	Every = 30 * time.Second
	// lookPause is the time between two looks at what there is to say.
	lookPause = time.Second
	// maxLines is how many services get a line of their own each time. They are those with the
	// highest counts. All others share one line.
	maxLines = 10
)

// BreakerOpen is the cause of calls that are not tried because calls before them failed.
const BreakerOpen = "breaker-open"

// Config has the messages of a Log, and asks what else is known. Messages and Logger are required.
type Config struct {
	Began string // a warning when it begins, with the first cause
	Lasts string // a warning while it lasts, with the last cause and the counts
	Back  string // when the service answers again, with the counts
	Gone  string // when there was no sign of the outage for Every
	// Counts are the names of what is counted of each outage.
	Counts []string
	// State returns what else is known about a service. Default: nothing.
	State func(service string) State
	// Facts returns more attributes for the line of an outage that lasts. Default: none.
	Facts  func(service string) []any
	Logger *slog.Logger
}

// State is what is known about a service beside what a Log was told.
type State struct {
	Down bool      // the service is known to be down
	Up   time.Time // when the service was last found to be up; zero: never
	Busy bool      // something is under way that must be counted before the outage ends
}

// Log logs the outages of many services. It is safe for concurrent use. Its methods cost little while
// no service is down.
type Log struct {
	cfg Config
	any atomic.Bool // there are outages

	mu      sync.Mutex
	outages map[string]*outage
	said    map[string]time.Time // when the last beginning was told, by service
}

// outage is one of a service.
type outage struct {
	since  time.Time
	signs  time.Time // the last sign of it
	back   time.Time // of the service; zero while it is down
	active time.Time // when something was counted last
	told   time.Time // the last line
	begun  bool      // its beginning was told
	cause  string
	err    error
	counts map[string]int64
}

// New returns a Log without outages.
func New(cfg Config) *Log {
	return &Log{cfg: cfg, outages: map[string]*outage{}, said: map[string]time.Time{}}
}

// Down notes a sign that a service is down: an outage begins, or goes on. The error may be nil.
func (l *Log) Down(service, cause string, err error) {
	now := time.Now()
	l.mu.Lock()
	o := l.outages[service]
	begins := o == nil
	if begins {
		o = &outage{since: now, told: now, active: now, counts: map[string]int64{}}
		l.outages[service] = o
		l.any.Store(true)
		if last, ok := l.said[service]; !ok || now.Sub(last) >= Every {
			o.begun, l.said[service] = true, now
		}
	}
	o.sign(now, cause, err)
	begins = begins && o.begun
	l.mu.Unlock()
	if begins { // else it is told when it lasts
		l.cfg.Logger.Warn(l.cfg.Began, withError([]any{"service", service, "cause", cause}, err)...)
	}
}

// Still notes such a sign if there is an outage already. It begins none.
func (l *Log) Still(service, cause string) {
	l.of(service, func(o *outage) { o.sign(time.Now(), cause, nil) })
}

// sign notes a sign. A cause that says less than the known one does not replace it.
func (o *outage) sign(now time.Time, cause string, err error) {
	o.signs, o.back = now, time.Time{}
	if cause == BreakerOpen && o.cause != "" || cause == o.cause && err == nil {
		return
	}
	o.cause, o.err = cause, err
}

// Up notes that a service has answered a call that was sent at this time. If the call was sent
// before the last sign of the outage, its answer says nothing about the outage.
func (l *Log) Up(service string, sent time.Time) {
	l.of(service, func(o *outage) {
		if o.back.IsZero() && sent.After(o.signs) {
			o.back = time.Now()
		}
	})
}

// Count adds one to a count of the service's outage, if there is one.
func (l *Log) Count(service, name string) {
	l.of(service, func(o *outage) { o.counts[name]++; o.active = time.Now() })
}

func (l *Log) of(service string, do func(*outage)) {
	if !l.any.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.outages[service]; o != nil {
		do(o)
	}
}

// Run writes the lines that are due until ctx ends.
func (l *Log) Run(ctx context.Context) error {
	ticker := time.NewTicker(lookPause)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			if l.any.Load() {
				l.look(now)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// look ends the outages that are over, and logs those that last.
func (l *Log) look(now time.Time) {
	l.mu.Lock()
	ended, lasting := map[string]outage{}, map[string]outage{}
	for service, o := range l.outages {
		switch {
		case o.over(now, l.state(service)):
			delete(l.outages, service)
			if o.begun {
				ended[service] = *o
			}
		case o.back.IsZero() && now.Sub(o.told) >= Every:
			o.told, o.begun, l.said[service] = now, true, now
			copied := *o
			copied.counts = maps.Clone(o.counts)
			lasting[service] = copied
		}
	}
	l.any.Store(len(l.outages) > 0)
	l.mu.Unlock()
	for _, service := range slices.Sorted(maps.Keys(ended)) {
		l.sayEnd(service, ended[service])
	}
	l.sayLasting(now, lasting)
}

func (l *Log) state(service string) State {
	if l.cfg.State == nil {
		return State{}
	}
	return l.cfg.State(service)
}

// over tells whether an outage has ended: the service is back and nothing more is counted, or
// there was no sign of the outage for Every.
func (o *outage) over(now time.Time, service State) bool {
	switch {
	case service.Down:
		o.signs, o.back = now, time.Time{}
	case o.back.IsZero() && service.Up.After(o.signs):
		o.back = service.Up
	}
	if o.back.IsZero() {
		return now.Sub(o.signs) >= Every
	}
	return !service.Busy && now.Sub(o.active) >= lookPause && now.Sub(o.back) >= lookPause || now.Sub(o.back) >= Every
}

func (l *Log) sayEnd(service string, o outage) {
	msg, end := l.cfg.Back, o.back
	if end.IsZero() {
		msg, end = l.cfg.Gone, o.signs
	}
	after := end.Sub(o.since).Round(time.Millisecond)
	l.cfg.Logger.Info(msg, append([]any{"service", service, "after", after}, l.counts(o)...)...)
}

func (l *Log) sayLasting(now time.Time, lasting map[string]outage) {
	services := slices.SortedFunc(maps.Keys(lasting), func(a, b string) int {
		first := l.cfg.Counts[0]
		return cmp.Or(cmp.Compare(lasting[b].counts[first], lasting[a].counts[first]), cmp.Compare(a, b))
	})
	rest := outage{counts: map[string]int64{}}
	for i, service := range services {
		o := lasting[service]
		if i >= maxLines {
			for name, n := range o.counts {
				rest.counts[name] += n
			}
			continue
		}
		attrs := append([]any{"service", service, "cause", o.cause, "for", now.Sub(o.since).Round(time.Second)}, l.counts(o)...)
		if l.cfg.Facts != nil {
			attrs = append(attrs, l.cfg.Facts(service)...)
		}
		l.cfg.Logger.Warn(l.cfg.Lasts, withError(attrs, o.err)...)
	}
	if more := len(services) - maxLines; more > 0 {
		l.cfg.Logger.Warn(l.cfg.Lasts, append([]any{"more_services", more}, l.counts(rest)...)...)
	}
}

func (l *Log) counts(o outage) (attrs []any) {
	for _, name := range l.cfg.Counts {
		attrs = append(attrs, name, o.counts[name])
	}
	return attrs
}

func withError(attrs []any, err error) []any {
	if err == nil {
		return attrs
	}
	return append(attrs, "error", err)
}
