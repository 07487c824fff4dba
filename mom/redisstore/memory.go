package redisstore

import (
	"sync/atomic"
	"time"
)

// memory is what is known of a server's memory. To look costs Redis more than an
// add does, so it is done now and then.
type memory struct {
	looked atomic.Int64 // when, in ns of clock
	full   atomic.Bool
}

const memoryLook = 250 * time.Millisecond

// clock began before the process, so that a first look is due at once. Unlike the
// time of day it is never set back, which would put off the next look.
var clock = time.Now().Add(-time.Hour)

// known returns the argument memory of add.lua. It is time for another look when the last one is
// longer ago than the given time.
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
