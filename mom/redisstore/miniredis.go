package redisstore

import (
	"math"

	"github.com/redis/rueidis"
)

// suitMiniredis fits a store to a miniredis. A miniredis does not speak RESP3, and its INFO tells
// nothing of memory, so no Add looks. It does not tell its version either, and so it gets the
// scripts for servers before Redis 7 without a word here.
func (s *Store) suitMiniredis(option *rueidis.ClientOption) {
	option.AlwaysRESP2 = true
	s.memoryLook = math.MaxInt64
}
