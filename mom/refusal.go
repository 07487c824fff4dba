package mom

import (
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// How long a shard waits after a service has refused a task: as long as the service
// asks, within bounds; without a word about it a second, then twice as long each time. While
// tasks are refused for the first time that is not for long: it may be each of them that the service
// refuses, such as for its size, and those behind them must not wait until their life is over.
const (
	minRefusalWait            = 250 * time.Millisecond
	maxRefusalWait            = 5 * time.Minute
	firstSilent, maxSilent    = time.Second, 30 * time.Second
	maxFirst                  = 4 * time.Second
	retryAfter, retryPushback = "Retry-After", "Grpc-Retry-Pushback-Ms"
)

// refusal is a service's word that it has not run a task, and takes it later.
type refusal struct {
	wait time.Duration // as long as the service asks
	told bool          // it does
}

// refusal tells whether an exchange was refused and is to be made again, with no
// attempt spent. resource_exhausted always is; unavailable only where it cannot mean
// that the call has run: it names a time, the route says so, or the call has a key,
// whose answer it must not become.
func (e *exchange) refusal(err error, info *connect.CallInfo) *refusal {
	kind, code := e.outcome.Kind, connect.CodeOf(err)
	if e.status == http.StatusTooManyRequests && kind == upstream.Answered && code == connect.CodeUnavailable {
		kind = upstream.Exhausted // of a proxy that sheds load, without an RPC error
		e.outcome = upstream.Outcome{Kind: kind, Cause: "http-429"}
	}
	if kind != upstream.Exhausted && kind != upstream.Unavailable {
		return nil
	}
	r := &refusal{}
	if r.wait, r.told = e.asked(err, info); kind == upstream.Exhausted || r.told || e.safe || e.call.GetIdempotencyKey() != "" {
		return r
	}
	return nil
}

// asked reads how long a service asks to be left alone: from Retry-After (RFC 9110,
// 10.2.3), a google.rpc.RetryInfo, or the pushback of gRPC (gRFC A6), of which a
// negative one names no time.
func (e *exchange) asked(err error, info *connect.CallInfo) (time.Duration, bool) {
	var rpcErr *connect.Error
	if errors.As(err, &rpcErr) {
		for _, detail := range rpcErr.Details() {
			var retry errdetails.RetryInfo
			if detail.Type == "google.rpc.RetryInfo" && proto.Unmarshal(detail.Value, &retry) == nil {
				return retry.GetRetryDelay().AsDuration(), true
			}
		}
	}
	for _, header := range []interface{ Get(string) string }{
		e.response.Header, e.response.Trailer, info.ResponseHeader(), info.ResponseTrailer(),
	} {
		if ms, err := strconv.ParseUint(header.Get(retryPushback), 10, 32); err == nil {
			return time.Duration(ms) * time.Millisecond, true
		}
		after := header.Get(retryAfter)
		seconds, err := strconv.ParseUint(after, 10, 32)
		if err == nil {
			return time.Duration(seconds) * time.Second, true
		}
		if errors.Is(err, strconv.ErrRange) {
			return maxRefusalWait, true
		}
		if date, err := http.ParseTime(after); err == nil {
			return time.Until(date), true
		}
	}
	return 0, false
}

// shedding is what a replayer knows of a service that refuses tasks. It is safe for
// concurrent use.
type shedding struct {
	mu       sync.Mutex
	began    time.Time       // the last wait of the whole shard
	wait     time.Duration   // how long that was
	silent   time.Duration   // the next one, if the service does not say
	answered bool            // since then
	task     contract.TaskID // the one that was refused first since a task was answered
	others   bool            // so were others
}

// refused returns how long a task waits that was sent at a time and refused, and
// whether the shard waits with it. It does, unless the task was refused before, and either others
// were answered meanwhile, or no other was refused and the service names no time: as far as anybody knows, what the
// service refuses then is this task.
func (s *shedding) refused(r *refusal, task contract.TaskID, sent time.Time, before bool) (wait time.Duration, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.task == (contract.TaskID{}) {
		s.task = task
	}
	s.others = s.others || s.task != task
	all = !before || !s.answered && (r.told || s.others)
	switch {
	case r.told:
		wait = min(max(r.wait, minRefusalWait), maxRefusalWait)
	case sent.Before(s.began): // one of several at once
		wait = max(s.wait-time.Since(s.began), minRefusalWait)
	case all && !before:
		wait = min(max(s.silent, firstSilent), maxFirst)
		s.silent = max(s.silent, 2*wait)
	case all:
		wait = max(s.silent, firstSilent)
		s.silent = min(2*wait, maxSilent)
	default: // PutBack makes it longer each time
		wait = firstSilent
	}
	if all && sent.After(s.began) {
		s.began, s.wait, s.answered = time.Now(), wait, false
	}
	return wait, all
}

// took takes note of a task that was sent at a time and answered.
func (s *shedding) took(sent time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sent.After(s.began) {
		s.answered, s.silent, s.task, s.others = true, 0, contract.TaskID{}, false
	}
}
