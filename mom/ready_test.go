package mom

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/grpchealth"
)

// fault is what is wrong with a store, for as long as a test says.
type fault struct {
	mu  sync.Mutex
	err error
}

func (f *fault) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fault) of(methods ...string) func(string) error {
	return func(method string) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, m := range methods {
			if m == method {
				return f.err
			}
		}
		return nil
	}
}

func serves(t *testing.T, m *MOM) bool {
	t.Helper()
	res, err := m.Check(t.Context(), &grpchealth.CheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return res.Status == grpchealth.StatusServing
}

// A MOM serves while its store can be trusted. A store that does not answer for a moment may be trusted on; one that
// says what is wrong with it, or that cannot be reached, may not.
func TestReadiness(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err   error
		after time.Duration // until the MOM no longer serves
	}{
		"it says what is wrong":    {errors.New("it evicts keys"), checkPause},
		"it cannot be reached":     {errors.Join(ErrUnavailable, ErrNotSent), checkPause},
		"it does not answer":       {ErrUnavailable, checkPause + graceTime},
		"it was emptied meanwhile": {ErrStoreLost, checkPause},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store, wrong := newFakeStore(), &fault{}
				store.fail = wrong.of("check")
				m := newFake(t, store, nil)
				m.ready.Store(false)
				inBackground(t, m.check)
				synctest.Wait()
				if !serves(t, m) {
					t.Fatal("a store without fault: the MOM does not serve")
				}
				wrong.set(c.err)
				time.Sleep(c.after - time.Millisecond)
				synctest.Wait()
				if !serves(t, m) {
					t.Errorf("just before %v: the MOM does not serve", c.after)
				}
				time.Sleep(recheckPause + time.Millisecond)
				synctest.Wait()
				if serves(t, m) {
					t.Errorf("after %v: the MOM serves", c.after)
				}
				wrong.set(nil)
				time.Sleep(recheckPause)
				synctest.Wait()
				if !serves(t, m) {
					t.Errorf("%v after the fault has ended: the MOM does not serve", recheckPause)
				}
			})
		})
	}
}

// A store that is away and comes back with something wrong is two things to be told of, once each.
func TestEachFaultIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, wrong := newFakeStore(), &fault{}
		store.fail = wrong.of("check")
		m := newFake(t, store, nil)
		var out bytes.Buffer
		m.cfg.Logger = slog.New(slog.NewTextHandler(&out, nil))
		inBackground(t, m.check)
		synctest.Wait()
		for _, err := range []error{ErrUnavailable, errors.New("it evicts keys"), ErrUnavailable, errors.New("it evicts keys")} {
			wrong.set(err)
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		if got := strings.Count(out.String(), "store not ready"); got != 2 || !strings.Contains(out.String(), "it evicts keys") {
			t.Errorf("told %d times, want twice, and what is wrong:\n%s", got, &out)
		}
	})
}

// A store that has refused something is looked at soon, one that was reconnected at once, any other every few seconds.
func TestStoreIsLookedAt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		m := newFake(t, store, nil)
		inBackground(t, m.check)
		looks := func(what string, want int) {
			t.Helper()
			synctest.Wait()
			if got := store.times("check"); got != want {
				t.Errorf("%s: %d looks, want %d", what, got, want)
			}
		}
		looks("at the start", 1)
		time.Sleep(3 * checkPause)
		looks("while nothing happens", 3)
		m.resync()
		looks("after a reconnect", 1)
		store.doubts <- struct{}{}
		looks("at once after a refusal", 0)
		time.Sleep(recheckPause)
		looks("soon after it", 1)
	})
}

// Who waits for tasks looks again when they may be lost.
func TestWaitersLookWhenTheStoreIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, wrong := newFakeStore(), &fault{}
		store.fail = wrong.of("check")
		m := newFake(t, store, nil)
		waiter := m.waiters.add(true)
		waiter.waitFor(testID())
		wrong.set(ErrStoreLost)
		inBackground(t, m.check)
		synctest.Wait()
		select {
		case <-waiter.changed:
		default:
			t.Error("nobody was woken")
		}
	})
}

// A MOM that drains says so to whoever asks for its health, of itself or of the services that it has; of others it
// knows nothing.
func TestHealthOfAMOM(t *testing.T) {
	t.Parallel()
	m := newFake(t, newFakeStore(), nil)
	if !serves(t, m) {
		t.Error("at the start: it does not serve")
	}
	m.Drain()
	if serves(t, m) {
		t.Error("once it drains: it serves")
	}
	if _, err := m.Check(t.Context(), &grpchealth.CheckRequest{Service: "nobody.v1.Service"}); err == nil {
		t.Error("of a service that it does not have: got no error")
	}
}
