package upstream

import (
	"net/http"
	"testing"

	"pgregory.net/rapid"
)

// No connection is given more bytes than its window has at least, nor an upload
// beside anybody else's bytes, nor anything beside a call that is to be alone; and when all calls have ended few connections are left.
func TestLanes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := map[*lane]bool{}
		l := &lanes{owned: map[string]*lane{}, open: func() transport { return &http.Transport{} }}
		var seats []*seat
		owners, alone := map[*seat]string{}, map[*seat]bool{}
		end := func(i int) {
			seats[i].leave()
			delete(owners, seats[i])
			seats[i] = seats[len(seats)-1]
			seats = seats[:len(seats)-1]
		}
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			switch step := rapid.IntRange(0, 6).Draw(t, "step"); {
			case step <= 1:
				seats = append(seats, l.take(rapid.IntRange(0, connWindow-1).Draw(t, "bytes")))
			case step <= 3:
				owner := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "owner")
				s := l.takeUpload(owner)
				seats, owners[s] = append(seats, s), owner
			case step == 6:
				s := l.takeAlone()
				seats, alone[s] = append(seats, s), true
			case len(seats) == 0:
			case step == 4:
				seats[rapid.IntRange(0, len(seats)-1).Draw(t, "ends")].ended(rapid.IntRange(0, 2*connWindow).Draw(t, "bytes"))
			default:
				end(rapid.IntRange(0, len(seats)-1).Draw(t, "leaves"))
			}
			type use struct {
				calls, others int // others: bytes that are no upload's
				alone         bool
				owners        map[string]int
			}
			uses := map[*lane]*use{}
			for _, s := range seats {
				u := uses[s.lane]
				if u == nil {
					u = &use{owners: map[string]int{}}
					uses[s.lane], all[s.lane] = u, true
				}
				u.calls++
				u.alone = u.alone || alone[s]
				if s.upload {
					u.owners[owners[s]]++
				} else if _, was := owners[s]; !was {
					u.others += s.bytes
				}
			}
			for _, u := range uses {
				if u.calls > maxLaneCalls || u.others > connWindow || len(u.owners) > 1 || u.owners[""] > 1 || len(u.owners) > 0 && u.others > 0 || u.alone && u.calls > 1 {
					t.Fatalf("a connection has %d calls, %d bytes, uploads %v", u.calls, u.others, u.owners)
				}
			}
		}
		for len(seats) > 0 {
			end(0)
		}
		for lane := range all {
			if lane.calls != 0 || lane.uploads != 0 || lane.unread != 0 {
				t.Fatalf("after the last call a connection has %+v", *lane)
			}
		}
		if len(l.room) > maxIdleLanes || len(l.owned) > 0 {
			t.Fatalf("%d connections and %d owners are left", len(l.room), len(l.owned))
		}
	})
}
