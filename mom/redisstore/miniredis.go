package redisstore

import (
	"math"

	"github.com/redis/rueidis"
)

// suitMiniredis makes a store that keeps its tasks in a miniredis, within this process. That one
// does not speak RESP3, and says nothing of its memory, which has no limit. The rest it needs no
// word for: it does not tell its version, so it gets the scripts of servers before Redis 7.
func (s *Store) suitMiniredis(option *rueidis.ClientOption) {
	option.AlwaysRESP2 = true
	s.memoryLook = math.MaxInt64
}
