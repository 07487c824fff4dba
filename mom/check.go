package mom

import (
	"context"
	"errors"
	"time"
)

const (
	// checkPause is the time between two looks at a store that can be trusted.
	checkPause = 5 * time.Second
	// recheckPause is the minimum time between two looks, used for a store that cannot be trusted
	// yet, or that refuses commands.
	recheckPause = 250 * time.Millisecond
	// checkTimeout bounds a look. It is longer than storeTimeout, since no caller waits for a look, and a distant store answers later.
	checkTimeout = time.Second
	// graceTime is how long a store may fail to answer before the MOM logs that and takes no calls
	// any more: the store may be starting together with us, or be silent for a short time. Calls
	// that come in that time fail by themselves.
	graceTime = 2 * time.Second
)

// checkStore has the methods that show whether the store can be trusted.
type checkStore interface {
	// Check returns the reason why the store cannot be trusted with tasks now; nil: it can.
	// It returns ErrStoreLost once; the next Check accepts the store as it is.
	Check(ctx context.Context) error
	// Durability returns what the last Check has found out about a crash of the store.
	Durability() Durability
	// Doubts has a value when the store has refused something, so that another
	// Check is due.
	Doubts() <-chan struct{}
}

// check keeps m.ready.
func (m *MOM) check(ctx context.Context) error {
	var failing time.Time        // since when; zero while the store can be trusted
	var looked time.Time         // when lookAgain was called last
	warned, told := false, false // warned: the store's absence or its fault was logged; told: its fault was logged
	for ctx.Err() == nil {
		began := time.Now()
		bounded, cancel := context.WithTimeout(ctx, checkTimeout)
		err := m.store.Check(bounded)
		cancel()
		if err != nil && failing.IsZero() {
			failing = began
		}
		late := time.Since(failing) < graceTime
		switch {
		case ctx.Err() != nil:
		case err == nil:
			failing, warned, told = time.Time{}, false, false
			if !m.ready.Swap(true) {
				m.cfg.Logger.Info("store ready")
				m.shards.doubt() // numbers of shards may not have been readable before
			}
		case late && errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrNotSent):
		default:
			// A store that was away may come back with a fault, about which the operator must do something else.
			answers := !errors.Is(err, ErrUnavailable)
			if was := m.ready.Swap(false); (!warned || answers && !told) && (was || !late) {
				m.cfg.Logger.Warn("store not ready: nothing is taken", "error", err)
				warned, told = true, answers
			}
		}
		switch {
		case errors.Is(err, ErrStoreLost):
			m.cfg.Logger.Error("tasks are lost", "error", err)
			m.anotherStore()
		case err != nil && !errors.Is(err, ErrUnavailable) && time.Since(looked) >= checkPause:
			// The store answers, but is configured wrongly: it may be losing tasks one by one.
			m.lookAgain()
			looked = time.Now()
		}
		pause := checkPause
		if err != nil {
			pause = recheckPause
		}
		due := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-due.C:
		case <-m.recheck:
		case <-m.store.Doubts():
			sleep(ctx, time.Until(began.Add(recheckPause)))
		}
		due.Stop()
	}
	return nil
}
