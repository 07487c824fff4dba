package mom

import (
	"context"
	"net/http"
	"time"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/route"
)

// terms are what a caller asks for with its headers.
type terms struct {
	key            string
	prefer         contract.Preference
	ttl, answerTTL time.Duration
}

// termsOf reads the headers of the contract. One that cannot be understood is an
// error: better no task than one with another life than its caller thinks.
func (in *intake) termsOf(info *connect.CallInfo) (terms, error) {
	header := http.Header{}
	for key, values := range info.RequestHeader().All() {
		header[key] = values
	}
	t := terms{prefer: contract.Prefer(header), ttl: in.route.TTL, answerTTL: in.cfg.AnswerTTL}
	var ok bool
	if t.key, ok = contract.Key(header); !ok {
		return t, contract.Errorf(momv1.Reason_REASON_HEADER_INVALID, "%s: want 1 to 255 visible ASCII characters", contract.HeaderKey)
	}
	for _, h := range []struct {
		key  string
		to   *time.Duration
		most time.Duration
	}{
		{contract.HeaderTTL, &t.ttl, route.MaxTTL},
		{contract.HeaderAnswerTTL, &t.answerTTL, MaxAnswerTTL},
	} {
		raw := header.Get(h.key)
		if raw == "" {
			continue
		}
		d, err := time.ParseDuration(raw)
		if err != nil || d < time.Millisecond {
			return t, contract.Errorf(momv1.Reason_REASON_HEADER_INVALID, "%s: %q: want a duration such as 60s or 1h", h.key, raw)
		}
		*h.to = min(d, h.most)
	}
	return t, nil
}

// hold is how long the caller is held: as long as it asked for, and in any case
// only until there is time left for the handle to reach it.
func (t terms) hold(ctx context.Context) time.Duration {
	hold := t.prefer.Hold()
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		hold = min(hold, left-contract.HandleMargin(left))
	}
	return max(hold, 0)
}
