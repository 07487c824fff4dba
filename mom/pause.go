package mom

import (
	"context"
	"time"
)

// sleep waits, unless ctx ends.
func sleep(ctx context.Context, d time.Duration) { pause(ctx, d, nil) }

// pause waits, unless ctx ends or somebody nudges.
func pause(ctx context.Context, d time.Duration, nudged <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-nudged:
	case <-ctx.Done():
	}
}

// nudge wakes the receiver of a channel with room for one value, now or when it receives next.
func nudge(channel chan<- struct{}) {
	select {
	case channel <- struct{}{}:
	default: // nudged already
	}
}
