package redisstore

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/redis/rueidis"

	"holdline/mom"
)

// ErrRecordVersion says that a record was written by a release that this one
// does not know. It is left as it is.
var ErrRecordVersion = errors.New("unknown record version")

var errSilent = errors.New("redis does not answer")

// greetingError is the failure of a connection over which no command of ours was sent.
type greetingError struct{ text string }

func (e *greetingError) Error() string { return e.text }

// refusals are the words with which scripts answer that they do not do what they were asked for.
var refusals = map[string]error{
	"FENCED":  mom.ErrFenced,
	"NONE":    mom.ErrNotFound,
	"STATE":   mom.ErrTaskState,
	"DROPPED": mom.ErrCallDropped,
}

// notSent says that nothing can have happened.
func notSent(err error) error {
	return fmt.Errorf("%w: %w: redis: %w", mom.ErrUnavailable, mom.ErrNotSent, err)
}

// judge maps what Redis or the way to it says to what mom.Store promises, and draws
// consequences. A nil reply is not an error here. After a refusal the store is to be looked at;
// one that another server or another password may lift ends the connections too.
func (s *Store) judge(err error) error {
	if err == nil || rueidis.IsRedisNil(err) {
		return nil
	}
	reply, ok := rueidis.IsRedisErr(err)
	if !ok {
		var greeting *greetingError
		if errors.As(err, &greeting) {
			return notSent(err)
		}
		return fmt.Errorf("%w: redis: %w", mom.ErrUnavailable, err)
	}
	text := reply.Error()
	if strings.HasPrefix(strings.TrimPrefix(text, "ERR "), "Protocol error") {
		// Some command on this connection has a text over proto-max-bulk-len, and Redis closes
		// it. Which one that is nobody can tell: the reply goes to the first that is due.
		return fmt.Errorf("%w: redis: %w", mom.ErrUnavailable, err)
	}
	code, _, _ := strings.Cut(text, " ")
	switch code {
	case "HLVERSION":
		return fmt.Errorf("%w: %w", ErrRecordVersion, err)
	case "OOM":
		return fmt.Errorf("%w: redis is at its maxmemory", mom.ErrQueueFull)
	case "READONLY", "MISCONF", "NOREPLICAS":
		// A server that refuses writes does so from the first one of a script.
	default:
		if inScript.MatchString(text) || code == "WRONGTYPE" {
			return fmt.Errorf("%w: redis: %w", errDefect, err)
		}
	}
	// It was refused before it ran.
	s.doubt()
	switch code {
	case "READONLY", "MASTERDOWN", "NOAUTH":
		s.link.cutOff()
	}
	return notSent(err)
}

// errDefect says that a command failed on what is stored. A script's effects until then stay.
var errDefect = errors.New("failed on what is stored")

// inScript matches what Redis 7, older ones and miniredis say of a failure inside a script.
var inScript = regexp.MustCompile(` script: [0-9a-f]{40}|user_script:|Error (running|compiling) script`)
