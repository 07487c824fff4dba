package mom

import (
	"testing"
	"testing/synctest"
	"time"
)

// How long a task waits that was refused, and whether its shard waits with it.
func TestShedding(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s shedding
		silent := &refusal{}
		one, other := testID(), testID()
		task := one
		check := func(what string, r *refusal, sent time.Time, before bool, wait time.Duration, all bool) {
			t.Helper()
			if gotWait, gotAll := s.refused(r, task, sent, before); gotWait != wait || gotAll != all {
				t.Errorf("%s: got %v, %v, want %v, %v", what, gotWait, gotAll, wait, all)
			}
		}
		later := func() time.Time { time.Sleep(time.Millisecond); return time.Now() }
		early := time.Now()
		check("the first", silent, later(), false, time.Second, true)
		check("the same again", silent, later(), true, time.Second, false)
		check("the same again, as asked", &refusal{time.Second, true}, later(), true, time.Second, true)
		task = other
		check("one beside it", silent, early, false, time.Second, true)
		check("the next", silent, later(), true, 2*time.Second, true)
		check("and the next", silent, later(), true, 4*time.Second, true)
		for range 5 {
			_, _ = s.refused(silent, task, later(), true)
		}
		check("at most", silent, later(), true, maxSilent, true)
		check("another one", silent, later(), false, maxFirst, true)
		check("again at most", silent, later(), true, maxSilent, true)
		check("as asked", &refusal{7 * time.Second, true}, later(), true, 7*time.Second, true)
		check("asked for too long", &refusal{time.Hour, true}, later(), true, maxRefusalWait, true)
		check("asked for nothing", &refusal{-time.Hour, true}, later(), true, minRefusalWait, true)
		s.took(later())
		check("for itself", silent, later(), true, time.Second, false)
		for _, wait := range []time.Duration{1, 2, 4, 4, 4} {
			check("for the first time", silent, later(), false, wait*time.Second, true)
		}
	})
}
