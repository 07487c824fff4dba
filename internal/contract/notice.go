package contract

import (
	"log/slog"

	momv1 "holdline/gen/mom/v1"
)

// notices are the reasons that are logged when a caller gets them. The other reasons tell about
// a task that somebody asked for, or are no trouble.
var notices = map[momv1.Reason]slog.Level{
	momv1.Reason_REASON_OUTCOME_UNKNOWN:        slog.LevelWarn,
	momv1.Reason_REASON_SERVICE_UNAVAILABLE:    slog.LevelWarn,
	momv1.Reason_REASON_STORE_UNAVAILABLE:      slog.LevelWarn,
	momv1.Reason_REASON_STORE_UNCERTAIN:        slog.LevelWarn,
	momv1.Reason_REASON_CALL_NOT_STORABLE:      slog.LevelWarn,
	momv1.Reason_REASON_QUEUE_FULL:             slog.LevelWarn,
	momv1.Reason_REASON_ANSWER_TOO_LARGE:       slog.LevelWarn,
	momv1.Reason_REASON_ANSWER_UNREADABLE:      slog.LevelWarn,
	momv1.Reason_REASON_IDEMPOTENCY_KEY_REUSED: slog.LevelInfo,
	momv1.Reason_REASON_HEADER_INVALID:         slog.LevelInfo,
	momv1.Reason_REASON_REQUEST_TOO_LARGE:      slog.LevelInfo,
	momv1.Reason_REASON_HEADERS_TOO_LARGE:      slog.LevelInfo,
	momv1.Reason_REASON_PROTOCOL_UNSUPPORTED:   slog.LevelInfo,
	momv1.Reason_REASON_NO_ROUTE:               slog.LevelInfo,
}

// Notice is what a log says of an error that a caller gets.
type Notice struct {
	Level   slog.Level
	Message string
	Reason  string
	// Key is the same for errors of one kind, so that they are logged once in a while. It has the
	// service in it, unless the error has nothing to do with the service.
	Key string
}

// NoticeOf returns what to log of an error about a service; false when there is
// nothing to log.
func NoticeOf(err error, service string) (Notice, bool) {
	reason := ReasonOf(err)
	level, ok := notices[reason]
	if !ok {
		return Notice{}, false
	}
	n := Notice{Level: level, Message: "call not served", Reason: Name(reason), Key: Name(reason)}
	switch reason {
	case momv1.Reason_REASON_STORE_UNAVAILABLE, momv1.Reason_REASON_STORE_UNCERTAIN, momv1.Reason_REASON_NO_ROUTE:
		return n, true // of the store; of a service that anybody may have made up
	case momv1.Reason_REASON_OUTCOME_UNKNOWN:
		n.Message = "a caller was told that the outcome is unknown"
	}
	n.Key += " " + service
	return n, true
}
