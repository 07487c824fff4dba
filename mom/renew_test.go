package mom

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Leases are renewed for as long as their attempts take, well before they end, and a store that is away for a
// moment takes no task from its attempt.
func TestRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.queue(testLeases(1)...)
		cause := make(chan error, 1)
		r := newReplay(t, store, &fakeEndpoints{}, func(ctx context.Context, lease Lease) report {
			sleep(ctx, time.Minute)
			cause <- context.Cause(ctx)
			return report{up: true, took: time.Minute}
		})
		time.Sleep(leaseTime)
		if n := store.times("renew"); n < 2 {
			t.Errorf("while an attempt is under way: renewed %d times in %v, want 2 at least", n, leaseTime)
		}
		store.mu.Lock()
		store.fail = func(method string) error {
			if method == "renew" {
				return ErrUnavailable
			}
			return nil
		}
		store.mu.Unlock()
		time.Sleep(time.Minute)
		if err := <-cause; err != nil {
			t.Errorf("an attempt whose lease was not lost: got %v, want nil", err)
		}
		store.times("renew")
		time.Sleep(time.Minute)
		if n := store.times("renew"); n != 0 {
			t.Errorf("without attempts: renewed %d times, want none", n)
		}
		r.stop()
	})
}

// An attempt whose lease is lost ends at once, and no other does.
func TestRenewalEndsLostAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		leases := testLeases(3)
		ended := make(chan error, len(leases))
		store.queue(leases...)
		r := newReplay(t, store, &fakeEndpoints{}, func(ctx context.Context, lease Lease) report {
			sleep(ctx, time.Minute)
			ended <- fmt.Errorf("%v: %w", lease.ID, context.Cause(ctx))
			return report{up: true, took: time.Minute}
		})
		time.Sleep(leaseTime) // by now all are under way
		if n := len(r.began()); n != 3 {
			t.Fatalf("%d attempts, want 3", n)
		}
		another := leases[1]
		another.Epoch++ // of a later lease of the same task, which is somebody else's
		store.mu.Lock()
		store.lost = []Lease{leases[0], another}
		store.mu.Unlock()
		time.Sleep(renewPause)
		if err := <-ended; !errors.Is(err, ErrFenced) || !strings.HasPrefix(err.Error(), leases[0].ID.String()) {
			t.Errorf("ended: %v, want %v, with %v", err, leases[0].ID, ErrFenced)
		}
		if len(ended) != 0 {
			t.Errorf("another one ended, too: %v", <-ended)
		}
	})
}
