package mom

import (
	"cmp"
	"context"
	"time"

	"holdline/internal/contract"
)

// terms are what a caller asks for with its headers.
type terms struct {
	key            string
	prefer         contract.Preference
	came           time.Time // when the call came
	ttl, answerTTL time.Duration
}

// termsOf reads the headers of the contract. The gateway has checked them already, unless it is
// of an older release.
func (in *intake) termsOf(x *incoming, came time.Time) (terms, error) {
	header := x.asks()
	asks, err := contract.AsksOf(header)
	if err != nil {
		return terms{}, err
	}
	key, err := contract.Key(header)
	if err != nil {
		return terms{}, err
	}
	return terms{
		key: key, prefer: contract.Prefer(header), came: came,
		ttl:       min(cmp.Or(asks.TTL, in.route.TTL), contract.MaxTTL),
		answerTTL: min(cmp.Or(asks.AnswerTTL, in.answerTTL), contract.MaxAnswerTTL),
	}, nil
}

// hold is how much longer the caller is held: for the time that it asked for, counted from the arrival of its
// call, but not so long that the handle would miss the caller's deadline.
func (t terms) hold(ctx context.Context) time.Duration {
	hold := t.prefer.Hold() - time.Since(t.came)
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		hold = min(hold, left-contract.HandleMargin(left))
	}
	return max(hold, 0)
}
