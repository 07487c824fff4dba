package mom

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/logonce"
)

// awayUntil is a store that takes departures from a time on.
type awayUntil struct {
	back time.Time
	took int
}

func (s *awayUntil) Abandon(_ context.Context, _ Shard, left []Departure) error {
	if time.Now().Before(s.back) {
		return errors.New("away")
	}
	s.took += len(left)
	return nil
}

func (s *awayUntil) Keep(context.Context, Shard, []contract.TaskID) ([]contract.TaskID, error) {
	if time.Now().Before(s.back) {
		return nil, errors.New("away")
	}
	return nil, nil
}

func (s *awayUntil) Name() string { return "" }

// A hold that was lost is given up after its grace, by a store that is away for a moment, too.
// After a longer time nobody knows what gateways had to say meanwhile: the task stays. So does one of which a gateway has said to us that it is to be kept, whatever
// becomes of that gateway.
func TestLapse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		away time.Duration
		kept bool
		took int
	}{
		"there":                     {0, false, 1},
		"away for little":           {lapseTime + lapseTries/2, false, 1},
		"away for little, and kept": {lapseTime + lapseTries/2, true, 0},
		"away for long":             {lapseTime + 2*lapseTries, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := &awayUntil{back: time.Now().Add(c.away)}
				l := newLapses(store, logonce.New(slog.New(slog.DiscardHandler)))
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- l.Run(ctx) }()
				id := testID()
				if c.kept {
					_, err := (&holdService{store: store, lapses: l}).KeepTasks(ctx, &momv1.KeepTasksRequest{Ids: []string{id.String()}})
					if err == nil {
						t.Error("the store took the word")
					}
				}
				l.add(id, 1)
				time.Sleep(c.away + lapseTime + lapseTries)
				stop()
				if err := <-ended; err != nil || store.took != c.took {
					t.Errorf("the store took %d, %v; want %d", store.took, err, c.took)
				}
			})
		})
	}
}
