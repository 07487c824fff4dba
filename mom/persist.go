package mom

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// How long an answer in hand is worth trying to store it.
const (
	persistTime  = time.Minute
	persistPause = 200 * time.Millisecond
	// maxAlone is how often a transition may fail while the store answers others.
	maxAlone = 3
)

// errCannotPass says that the store never takes this transition, while it may well
// take others.
var errCannotPass = errors.New("the store does not take it")

// persist repeats a transition until the store has taken it: the store may be
// away for a while, the answer is here only now. A lease that was lost meanwhile
// ends it, since somebody else has the task by then; so does an error that is not
// the store being away or full, and is the transition's own: errCannotPass.
//
// others, if given, asks the store something else. It is for what a store may refuse
// by cutting the connection, as Redis does with a text over its limit: that looks
// like a store that is away, and cuts off everybody on that connection each time.
func persist(ctx context.Context, transition, others func(context.Context) error) error {
	ctx = context.WithoutCancel(ctx) // the store has its own bounds
	until := time.Now().Add(persistTime)
	alone := 0
	for {
		err := transition(ctx)
		switch {
		case err == nil, errors.Is(err, ErrFenced), !time.Now().Before(until):
			return err
		case !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrQueueFull):
			return fmt.Errorf("%w: %w", errCannotPass, err)
		case others != nil && !errors.Is(err, ErrNotSent) && others(ctx) == nil:
			alone++
		default:
			alone = 0
		}
		if alone == maxAlone {
			return fmt.Errorf("%w: %w", errCannotPass, err)
		}
		time.Sleep(min(persistPause, time.Until(until)))
	}
}
