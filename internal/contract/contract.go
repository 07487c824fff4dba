// Package contract is what gateway and MOM say to callers and to each other:
// header names, reasons with their codes and HTTP statuses, and task ids.
// Nothing in it does I/O.
package contract

import "time"

// Defaults for callers who ask for nothing, and the most that they may ask for.
const (
	// The hold: how long a caller waits for the answer of a stored call.
	DefaultHold = 10 * time.Second
	MaxHold     = 300 * time.Second
	// How long a task may wait for its service.
	DefaultTTL = 15 * time.Minute
	MaxTTL     = 24 * time.Hour
	// How long an answer is kept.
	DefaultAnswerTTL = time.Hour
	MaxAnswerTTL     = 7 * 24 * time.Hour
)

// Anonymous is the caller of every call while callers have no identities.
const Anonymous = "anonymous"
