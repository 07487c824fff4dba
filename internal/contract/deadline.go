package contract

import (
	"net/http"
	"strconv"
	"time"
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
// or grpc-timeout. One that cannot be read counts as none: the service, which
// gets it too, is the one to complain.
func Timeout(header http.Header) (time.Duration, bool) {
	if ms := header.Get(headerConnectTimeout); ms != "" {
		// At most ten digits, says the Connect protocol.
		n, err := strconv.ParseUint(ms, 10, 34)
		return time.Duration(n) * time.Millisecond, err == nil
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
