package mom

import (
	"context"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/upstream"
)

// How long a task that cannot be sent is passed over the first time. Then it waits twice as long each
// time, up to 128 times the first wait. Another MOM may be able to send the task, and takes it
// as soon as its wait is over.
const (
	unsentPause  = time.Second
	unknownPause = 250 * time.Millisecond
)

// flaw is the reason why a task can be sent to no endpoint of its service as it is. The fault lies with
// the task, or with a MOM that lacks its schema, and never with the service.
type flaw struct {
	cause string        // in the metrics
	words string        // in the task's state, at most 60 bytes
	pause time.Duration // 0: no other MOM, schema or service can help
}

// All flaws.
var (
	unknownRecord   = &flaw{"unknown-record", "cannot be sent: it was stored by a newer release", unknownPause}
	unknownMethod   = &flaw{"unknown-method", "cannot be sent: its method is in no schema of the MOM", unknownPause}
	streamMethod    = &flaw{"stream-method", "cannot be sent: by the MOM's schema its method is a stream", unknownPause}
	unknownProtocol = &flaw{"unknown-protocol", "cannot be sent: the MOM does not speak its protocol", unknownPause}
	headersTooLarge = &flaw{upstream.HeadersTooLarge, "cannot be sent: its headers are more than the service takes", unsentPause}
	headerInvalid   = &flaw{upstream.HeaderInvalid, "cannot be sent: one of its headers is not valid in HTTP", 0}
	notTranslated   = &flaw{"not-translated", "cannot be sent: no schema writes it in its service's codec", unsentPause}
	notEncoded      = &flaw{"not-encoded", "cannot be sent: no request can be made of it", 0}
)

// look returns the known method of a call before the call is sent, and its flaw; nil: the call can be sent. Another
// MOM, with other schemas or of another release, may find no flaw.
func (s *sender) look(call *momv1.Call) (knownMethod, *flaw) {
	own := s.shelf.snapshot(s.service)
	k := knownMethod{own.of.Method(call.GetProcedure()), own.of, own.name}
	switch {
	case !knownRecord(call.GetRecordVersion()):
		return k, unknownRecord
	case k.method == nil:
		return k, unknownMethod
	case !k.method.Unary:
		return k, streamMethod
	}
	if _, ok := speechOf(call); !ok {
		return k, unknownProtocol
	}
	return k, nil
}

// flawOf returns the flaw because of which an attempt could not be made; nil if there is none, whether
// the service has answered or not.
func flawOf(res result) *flaw {
	if res.outcome.Kind != upstream.Unsendable {
		return nil
	}
	for _, f := range []*flaw{headersTooLarge, headerInvalid, notTranslated} {
		if f.cause == res.outcome.Cause {
			return f
		}
	}
	return notEncoded
}

// passOver lets a task wait until it can be sent, or for a person. The tasks behind it go on,
// and neither the pace of replay nor the log of outages is affected.
func (a *attempter) passOver(ctx context.Context, lease Lease, f *flaw) report {
	service := lease.ID.Service
	a.metrics.passedOver.WithLabelValues(service, f.cause).Inc()
	a.once.Warn("passed over "+service+" "+f.cause, "a task cannot be sent: it is passed over", "service", service, "cause", f.cause,
		"procedure", lease.Call.GetProcedure(), "task", lease.ID)
	a.note(lease, persist(ctx, func(ctx context.Context) error {
		due, err := a.store.PassOver(ctx, lease, f.words, f.pause)
		a.reaper.within(due)
		return err
	}, nil))
	return report{up: true}
}
