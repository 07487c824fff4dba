package contract

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
)

// The headers that carry a caller's deadline.
const (
	headerConnectTimeout = "Connect-Timeout-Ms"
	headerGRPCTimeout    = "Grpc-Timeout"
)

// The limits that the protocols set to a deadline's digits.
const (
	maxConnectMillis = 9_999_999_999
	maxGRPCUnits     = 99_999_999
)

// maxTimeout is the longest deadline, in whole hours. It leaves room in a Duration for
// what is added to a deadline.
const maxTimeout = math.MaxInt64 / time.Hour * time.Hour

// grpcUnits are the units of a grpc-timeout, from the finest to the coarsest.
var grpcUnits = [...]struct {
	letter byte
	length time.Duration
}{
	{'n', time.Nanosecond}, {'u', time.Microsecond}, {'m', time.Millisecond}, {'S', time.Second}, {'M', time.Minute}, {'H', time.Hour},
}

// Timeout reads the time that a caller gives its call, from the header of its
// protocol: Connect-Timeout-Ms, or grpc-timeout. A time that is too long for a Duration becomes
// maxTimeout. One that cannot be read counts as none, and false is returned: CheckTimeout
// refuses it, or the service does, which gets the header too.
func Timeout(header http.Header, grpc bool) (time.Duration, bool) {
	if grpc {
		return ParseTimeout(header.Get(headerGRPCTimeout), grpc)
	}
	return ParseTimeout(header.Get(headerConnectTimeout), grpc)
}

// ParseTimeout reads what such a header says.
func ParseTimeout(raw string, grpc bool) (time.Duration, bool) {
	if raw == "" {
		return 0, false
	}
	if !grpc {
		n, err := strconv.ParseUint(raw, 10, 64)
		return time.Duration(n) * time.Millisecond, err == nil && len(raw) <= 10
	}
	if len(raw) > 9 {
		return 0, false
	}
	last := len(raw) - 1
	n, err := strconv.ParseUint(raw[:last], 10, 32)
	for _, unit := range grpcUnits {
		if unit.letter == raw[last] && err == nil {
			return time.Duration(min(n, uint64(maxTimeout/unit.length))) * unit.length, true
		}
	}
	return 0, false
}

// CheckTimeout returns an error if the header that Timeout reads is not valid in the call's
// protocol. An empty header counts as absent, as in connect.
func CheckTimeout(header http.Header, grpc bool) *connect.Error {
	key, want := headerConnectTimeout, "milliseconds, of at most ten digits"
	if grpc {
		key, want = headerGRPCTimeout, "at most eight digits and a unit of H, M, S, m, u or n"
	}
	values := header[key]
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return nil
	}
	if _, ok := Timeout(http.Header{key: values}, grpc); !ok || len(values) > 1 {
		return headerInvalid("%s: %q, want %s", key, strings.Join(values, ", "), want)
	}
	return nil
}

// SetTimeout writes what is left of a caller's time into the header of its protocol.
func SetTimeout(header http.Header, grpc bool, left time.Duration) {
	key, value := TimeoutHeader(grpc, left)
	header.Set(key, value)
}

// TimeoutHeader is that header, with the time in as many digits as the protocol allows. It rounds up: a service that ended the call before
// its caller does would take the word from both.
func TimeoutHeader(grpc bool, left time.Duration) (key, value string) {
	if !grpc {
		return headerConnectTimeout, strconv.FormatInt(min(roundUp(left, time.Millisecond), maxConnectMillis), 10)
	}
	unit := grpcUnits[len(grpcUnits)-1]
	for _, finer := range grpcUnits {
		if finer.length >= time.Millisecond && roundUp(left, finer.length) <= maxGRPCUnits {
			unit = finer
			break
		}
	}
	return headerGRPCTimeout, strconv.FormatInt(roundUp(left, unit.length), 10) + string(unit.letter)
}

// roundUp is a time in whole units, and at least one, since some readers take 0 for no deadline.
func roundUp(left, unit time.Duration) int64 { return int64((max(left, 1)-1)/unit) + 1 }
