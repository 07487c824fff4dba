package redisstore

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// memory is what is known about a server's memory. A look at it costs Redis more than an add, so
// only some of the adds look.
type memory struct {
	looked atomic.Int64 // time of the last look, in ns since clock
	full   atomic.Bool
}

const memoryLook = 250 * time.Millisecond

// clock is a time before the process began, so that the first look is due at once. The time since
// then is monotonic: the next look is not delayed when the time of day is set back.
var clock = time.Now().Add(-time.Hour)

// known returns the argument memory of add.lua. Another look is due when the last one is longer
// ago than look.
func (m *memory) known(look time.Duration) string {
	now, looked := int64(time.Since(clock)), m.looked.Load()
	switch {
	case now-looked > int64(look) && m.looked.CompareAndSwap(looked, now):
		return "look"
	case m.full.Load():
		return "full"
	}
	return ""
}

// learn records what a reply of add.lua shows about the memory; known is the argument memory of that call.
func (m *memory) learn(known string, reply rueidis.RedisMessage) {
	if reply.IsInt64() { // as nearly always
		if known == "look" {
			m.full.Store(false)
		}
		return
	}
	if words, err := reply.AsStrSlice(); err == nil && slices.Equal(words, []string{"FULL", "memory"}) {
		m.full.Store(true)
	}
}
