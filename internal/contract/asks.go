package contract

import (
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
)

// Asks is what a caller asks of Holdline with the Holdline-* headers.
type Asks struct {
	TTL, AnswerTTL time.Duration // 0: it does not say; limits are the reader's to set
	Direct         bool          // never stored
	Explain        bool
}

// AsksOf reads these headers. One that cannot be understood is an error, whether the service is up or not.
// Otherwise the caller would find out on the day of an outage that its call is treated in another way than it thought.
func AsksOf(header http.Header) (asks Asks, err *connect.Error) {
	for i := range asked {
		h := &asked[i]
		switch values := header[h.Name]; len(values) {
		case 0:
		case 1:
			var ok bool
			if asks, ok = h.ask(asks, strings.TrimSpace(values[0])); !ok {
				return asks, headerInvalid("%s: %q, want %s", h.Name, values[0], h.want)
			}
		default:
			return asks, headerInvalid("%s: it is there %d times, want it once", h.Name, len(values))
		}
	}
	return asks, nil
}

// asked are the headers that it reads.
var asked = slices.DeleteFunc(slices.Clone(Headers), func(h Header) bool { return h.ask == nil })

const aDuration = "a duration such as 60s or 1h"

// modeDirect is the only value of HeaderMode. It may be written in capitals.
const modeDirect = "direct"

// durations are those of time.ParseDuration that are not negative.
var durations = regexp.MustCompile(`^\+?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`)

// duration reads a duration of at least a millisecond. One that is too long for a Duration becomes the longest Duration.
func duration(value string) (time.Duration, bool) {
	d, err := time.ParseDuration(value)
	if err != nil && durations.MatchString(value) {
		return math.MaxInt64, true
	}
	return d, err == nil && d >= time.Millisecond
}

// IsTTL tells whether AsksOf understands a HeaderTTL or HeaderAnswerTTL.
func IsTTL(value string) bool {
	_, ok := duration(strings.TrimSpace(value))
	return ok
}

// Key reads the Idempotency-Key: 1 to 255 visible ASCII characters, with or
// without the quotes of a structured field. An absent one is empty; anything else is
// an error.
func Key(header http.Header) (key string, err *connect.Error) {
	values, given := header[HeaderKey]
	if !given {
		return "", nil
	}
	if len(values) == 1 {
		key = ParseKey(values[0])
	}
	if key == "" {
		return "", headerInvalid("%s: want it once, of 1 to 255 visible ASCII characters", HeaderKey)
	}
	return key, nil
}

// ParseKey reads what such a header says; empty: it is not valid.
func ParseKey(raw string) string {
	key := strings.TrimSpace(raw)
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = key[1 : len(key)-1]
	}
	if len(key) > 255 || strings.ContainsFunc(key, func(c rune) bool { return c < '!' || c > '~' }) {
		return ""
	}
	return key
}

func headerInvalid(format string, args ...any) *connect.Error {
	return Errorf(momv1.Reason_REASON_HEADER_INVALID, format, args...)
}
