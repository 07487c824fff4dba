package gateway

import (
	"cmp"
	"log/slog"

	"holdline/internal/outage"
)

// countHandedOff is the log's name for the number of calls that go to the MOM in an outage. It does not
// mean that they are stored: the MOM logs that.
const countHandedOff = "handed_off"

// newOutages returns the log of services whose calls go to the MOM because the services fail.
func newOutages(targets *targets, log *slog.Logger) *outage.Log {
	return outage.New(outage.Config{
		Began:  "a service fails: its calls are handed off to the MOM",
		Lasts:  "a service still fails: its calls are handed off to the MOM",
		Back:   "the service is back",
		Gone:   "no more signs of the outage",
		Counts: []string{countHandedOff},
		State: func(service string) outage.State {
			t := targets.of(service)
			if t == nil { // its route is gone
				return outage.State{}
			}
			return outage.State{Down: t.breaker.open(), Up: *t.breaker.closedAt.Load()}
		},
		Facts: func(service string) []any {
			if t := targets.of(service); t != nil {
				return []any{"held", t.held.Load()}
			}
			return nil
		},
		Logger: log,
	})
}

// handedOff records a call that goes to the MOM because its service fails. For a call
// that was not tried, the cause is the reason why earlier calls failed.
func (p *proxy) handedOff(c *call) {
	cause := c.tries.last.Cause
	if cause == outage.BreakerOpen {
		cause = cmp.Or(*c.target.breaker.failedBy.Load(), cause)
	}
	p.outages.Down(c.target.service, cause, c.tries.err)
	p.outages.Count(c.target.service, countHandedOff)
}
