package mom

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// What an attempt came to is tried to be recorded for as long as that is worth it: until the store takes it, or
// says that it never will.
func TestPersist(t *testing.T) {
	t.Parallel()
	wrong, cut := errors.New("wrong"), ErrUnavailable
	answers := func(context.Context) error { return nil }
	silent := func(context.Context) error { return ErrUnavailable }
	for name, c := range map[string]struct {
		says   func(after time.Duration) error
		others func(context.Context) error
		want   error
		after  time.Duration
	}{
		"taken at once":          {func(time.Duration) error { return nil }, nil, nil, 0},
		"the lease is lost":      {func(time.Duration) error { return ErrFenced }, nil, ErrFenced, 0},
		"it is wrong for ever":   {func(time.Duration) error { return wrong }, nil, errCannotPass, 0},
		"away for ten seconds":   {until(10*time.Second, ErrUnavailable), nil, nil, 10 * time.Second},
		"full for ten seconds":   {until(10*time.Second, ErrQueueFull), nil, nil, 10 * time.Second},
		"away for ever":          {until(time.Hour, ErrUnavailable), nil, ErrUnavailable, persistTime},
		"cut, others are served": {until(time.Hour, cut), answers, errCannotPass, 2 * persistPause},
		"cut, and so are others": {until(10*time.Second, cut), silent, nil, 10 * time.Second},
		"not connected":          {until(10*time.Second, errors.Join(cut, ErrNotSent)), answers, nil, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				gone, leave := context.WithCancel(t.Context())
				leave() // who began the attempt may be gone: its answer is here
				err := persist(gone, func(context.Context) error { return c.says(time.Since(start)) }, c.others)
				if !errors.Is(err, c.want) || c.want == nil && err != nil {
					t.Errorf("got %v, want %v", err, c.want)
				}
				if took := time.Since(start); took != c.after {
					t.Errorf("it took %v, want %v", took, c.after)
				}
			})
		})
	}
}

// until is an error that lasts for some time.
func until(end time.Duration, err error) func(time.Duration) error {
	return func(after time.Duration) error {
		if after < end {
			return err
		}
		return nil
	}
}
