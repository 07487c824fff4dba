package mom

import "testing"

// Tasks that may not run twice are alone while there are lanes, and share them evenly
// then; a lane that is free is taken again.
func TestLanes(t *testing.T) {
	t.Parallel()
	var l lanes
	if lane, _ := l.take(true, false); lane != 0 {
		t.Errorf("a task that may run twice: lane %d, want the shared one", lane)
	}
	leave := map[int]func(){}
	for i := range maxLanes {
		lane, left := l.take(i%2 == 0, i%2 == 0) // undeclared, or tried before
		if lane == 0 || leave[lane] != nil {
			t.Errorf("task %d: lane %d, want one of its own", i, lane)
		}
		leave[lane] = left
	}
	leave[3]()
	if lane, _ := l.take(false, false); lane != 3 {
		t.Errorf("then: lane %d, want the free one", lane)
	}
	shared := map[int]bool{}
	for range maxLanes {
		lane, _ := l.take(false, false)
		shared[lane] = true
	}
	if len(shared) != maxLanes {
		t.Errorf("twice as many tasks: %d lanes, want %d shared by two", len(shared), maxLanes)
	}
}
