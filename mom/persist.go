package mom

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// How long we try to store an answer.
const (
	persistTime  = time.Minute
	persistPause = 200 * time.Millisecond
	// maxAlone is how often a transition may fail while the store answers others.
	maxAlone = 3
)

// errCannotPass means that the store never accepts this transition, although it accepts
// others.
var errCannotPass = errors.New("the store does not take it")

// persist repeats a transition until the store has taken it: the store may be
// away for a while, and if we gave up, the answer would be lost. It stops if the lease was lost meanwhile,
// since then somebody else has the task. It also stops with errCannotPass if the error
// belongs to the transition itself, and the store is not away or full.
//
// others, if given, asks the store something else. It is for transitions that a store may refuse
// by cutting the connection, as Redis does with a string over its limit: that looks
// like a store that is away, and each time cuts off all other commands on that connection.
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
