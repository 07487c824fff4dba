package mom

import (
	"context"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/upstream"
)

// How long a task that cannot be sent is passed over the first time; twice as long each
// time, up to 128 times. Another MOM may know what this one does not, and takes the task
// as soon as its wait is over.
const (
	unsentPause  = time.Second
	unknownPause = 250 * time.Millisecond
)

// flaw is why a task cannot be sent as it is, to no endpoint of its service: a fault of
// the task, or of a MOM that knows too little, and never of the service.
type flaw struct {
	cause string        // in the metrics
	words string        // in the task's state, at most 60 bytes
	pause time.Duration // 0: no other MOM, schema or service mends it
}

// The flaws there are.
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

// look looks at a call before it is sent, for what is known of its method, and for a flaw; nil: it can be sent. Another
// MOM, with other schemas or of another release, may see none.
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

// flawOf finds the flaw that kept an attempt from its service; nil: it is the service
// that did not answer, or did.
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

// passOver lets a task wait for better days, or for a person: those behind it go on,
// and neither the pace of replay nor the log of outages hears of it.
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
