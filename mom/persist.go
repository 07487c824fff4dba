package mom

import (
	"context"
	"errors"
	"time"
)

// How long an answer in hand is worth trying to store it.
const (
	persistTime  = time.Minute
	persistPause = 200 * time.Millisecond
)

// persist repeats a transition until the store has taken it: the store may be
// away for a while, the answer is here only now. A lease that was lost meanwhile
// ends it, since somebody else has the task by then.
func persist(ctx context.Context, transition func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), persistTime)
	defer cancel()
	for {
		bounded, done := context.WithTimeout(ctx, storeTimeout)
		err := transition(bounded)
		done()
		if err == nil || errors.Is(err, ErrFenced) || ctx.Err() != nil {
			return err
		}
		sleep(ctx, persistPause)
	}
}
