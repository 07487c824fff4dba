package wire

import "cmp"

// Engine is what speaks HTTP.
type Engine uint8

// Own is Holdline's own, NetHTTP that of Go's library. DefaultEngine is Own, unless the program was built with the tag nethttp: so all tests
// can be run with each.
const (
	DefaultEngine Engine = iota
	Own
	NetHTTP
)

// IsNetHTTP tells whether Go's library is to speak.
func (e Engine) IsNetHTTP() bool { return cmp.Or(e, defaultEngine) == NetHTTP }
