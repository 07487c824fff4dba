package redisstore

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/redis/rueidis"

	"holdline/mom"
)

var errSilent = errors.New("redis does not answer")

// greetingError is the failure of a connection on which none of our commands was sent.
type greetingError struct{ text string }

func (e *greetingError) Error() string { return e.text }

// refusals maps the words by which a script refuses a transition to the errors of mom.Store.
var refusals = map[string]error{
	"FENCED":  mom.ErrFenced,
	"NONE":    mom.ErrNotFound,
	"STATE":   mom.ErrTaskState,
	"DROPPED": mom.ErrCallDropped,
}

// notSent marks an error: Redis surely has not run the command.
func notSent(err error) error {
	return fmt.Errorf("%w: %w: redis: %w", mom.ErrUnavailable, mom.ErrNotSent, err)
}

// judge maps an error of Redis, or of the connection to it, to the errors that mom.Store
// promises. A nil reply is not an error here. After a refusal, judge asks for a Check. If another
// server or another password may help, it also closes the connections.
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
		// A command on this connection has a string over proto-max-bulk-len, and Redis closes the connection.
		// We cannot tell which command: the first one that waits for a reply gets this error.
		return fmt.Errorf("%w: redis: %w", mom.ErrUnavailable, err)
	}
	code, _, _ := strings.Cut(text, " ")
	switch code {
	case "HLVERSION":
		return fmt.Errorf("%w: %w", mom.ErrRecordVersion, err)
	case "OOM":
		return fmt.Errorf("%w: redis is at its maxmemory", mom.ErrQueueFull)
	case "READONLY", "MISCONF", "NOREPLICAS":
		// Such a server already refuses the first write of a script, so nothing was changed.
	default:
		if inScript.MatchString(text) || code == "WRONGTYPE" {
			if lacksRight.MatchString(text) {
				s.barred.Store(true)
			}
			s.doubt()
			return fmt.Errorf("%w: redis: %w", errDefect, err)
		}
	}
	// The command was refused before it ran.
	s.doubt()
	switch code {
	case "READONLY", "MASTERDOWN", "NOAUTH":
		s.link.cutOff()
	}
	return notSent(err)
}

// errDefect means that a command failed because of stored data. What a script wrote before that stays.
var errDefect = errors.New("failed on what is stored")

// inScript matches the errors of Redis 7 and 8, Valkey, older servers and miniredis for a failure inside a script. Our own script marks the failure of one
// transition in a turn in the same way.
var inScript = regexp.MustCompile(` script: |user_script:|Error (running|compiling) script`)

// rightWords occur in the errors of commands that our user may not call, or not with these keys, or that were renamed. Redis 6, Redis 7, and Redis 8 and Valkey have
// different texts for these errors. The words are no patterns, since scripts look for them, too.
var rightWords = []string{"NOPERM", "executing the script", "ACL failure", "called from script"}

// lacksRight matches an error that has one of the rightWords.
var lacksRight = regexp.MustCompile(strings.Join(rightWords, "|"))
