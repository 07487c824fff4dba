package gateway

import (
	"sync"
	"time"
)

// The retry budget of a route: a fifth of its calls, or three retries a second if
// that is more. Unused retries are kept, up to a limit.
const (
	budgetShare     = 0.2
	budgetPerSecond = 3
	budgetMost      = 30
)

// budget keeps the retries of many calls from becoming the load that keeps a
// service down. It is safe for concurrent use.
type budget struct {
	mu     sync.Mutex
	tokens float64
	filled time.Time
}

func newBudget() *budget { return &budget{tokens: budgetPerSecond, filled: time.Now()} }

// earn counts a call.
func (b *budget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+budgetShare, budgetMost)
}

// spend takes a retry out of the budget, if there is one.
func (b *budget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.tokens = min(b.tokens+budgetPerSecond*now.Sub(b.filled).Seconds(), budgetMost)
	b.filled = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
