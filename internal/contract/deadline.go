package contract

import (
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

var grpcUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second,
	'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// Timeout reads the time that a caller gives its call, from Connect-Timeout-Ms
// or grpc-timeout. One that cannot be read counts as none: who gets it too, is the
// one to complain. See CheckTimeout.
func Timeout(header http.Header) (time.Duration, bool) {
	if ms := header.Get(headerConnectTimeout); ms != "" {
		// At most ten digits, says the Connect protocol.
		n, err := strconv.ParseUint(ms, 10, 34)
		return time.Duration(n) * time.Millisecond, err == nil && len(ms) <= 10
	}
	raw := header.Get(headerGRPCTimeout)
	if raw == "" || len(raw) > 9 {
		return 0, false
	}
	unit, known := grpcUnits[raw[len(raw)-1]]
	n, err := strconv.ParseUint(raw[:len(raw)-1], 10, 32)
	// 99999999H is more than a Duration holds, and more than anybody waits.
	n = min(n, uint64(10*365*24*time.Hour/max(unit, 1)))
	return time.Duration(n) * unit, known && err == nil
}

// CheckTimeout judges the header that Timeout reads, as far as it is one of the
// call's protocol. Empty counts as absent, as in connect.
func CheckTimeout(header http.Header, grpc bool) *connect.Error {
	key, want := headerConnectTimeout, "milliseconds, of at most ten digits"
	if grpc {
		key, want = headerGRPCTimeout, "at most eight digits and a unit of H, M, S, m, u or n"
	}
	values := header[key]
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return nil
	}
	if _, ok := Timeout(http.Header{key: values}); !ok || len(values) > 1 {
		return headerInvalid("%s: %q, want %s", key, strings.Join(values, ", "), want)
	}
	return nil
}

// SetTimeout writes what is left of a caller's time, in the header that the
// caller used.
func SetTimeout(header http.Header, left time.Duration) {
	left = max(left, time.Millisecond)
	switch {
	case header.Get(headerConnectTimeout) != "":
		header.Set(headerConnectTimeout, strconv.FormatInt(left.Milliseconds(), 10))
	case left < 24*time.Hour:
		header.Set(headerGRPCTimeout, strconv.FormatInt(left.Milliseconds(), 10)+"m")
	default: // at most eight digits, says gRPC
		header.Set(headerGRPCTimeout, strconv.FormatInt(int64(left/time.Second), 10)+"S")
	}
}
