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
// asks, within bounds. If the service names no time, the shard waits a second, then twice as long each time. While
// tasks are refused for the first time the wait stays short: the service may refuse each of these tasks
// for itself, such as for its size, and the tasks behind them must not wait until they expire.
const (
	minRefusalWait            = 250 * time.Millisecond
	maxRefusalWait            = 5 * time.Minute
	firstSilent, maxSilent    = time.Second, 30 * time.Second
	maxFirst                  = 4 * time.Second
	retryAfter, retryPushback = "Retry-After", "Grpc-Retry-Pushback-Ms"
)

// refusal is a response by which a service shows that it has not run a task, and may take it later.
type refusal struct {
	wait time.Duration // the time that the service names
	told bool          // the service has named a time
}

// refusal returns the refusal in an exchange, if there is one: then the task is sent again later, with no
// attempt spent. resource_exhausted is always a refusal. unavailable is a refusal only if it
// names a time, if the route says that it means not executed, or if the call has a key:
// it must not become the answer of the key.
func (e *exchange) refusal(err error, info *connect.CallInfo) *refusal {
	kind, code := e.outcome.Kind, connect.CodeOf(err)
	if e.status == http.StatusTooManyRequests && kind == upstream.Answered && code == connect.CodeUnavailable {
		kind = upstream.Exhausted // from a proxy that sheds load, without an RPC error
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

// asked reads how long a service asks us to wait: from Retry-After (RFC 9110,
// 10.2.3), a google.rpc.RetryInfo, or the pushback of gRPC (gRFC A6). A
// negative pushback names no time.
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

// shedding is what a replayer knows about a service that refuses tasks. It is safe for
// concurrent use.
type shedding struct {
	mu       sync.Mutex
	began    time.Time       // when the last wait of the whole shard began
	wait     time.Duration   // how long that wait was
	silent   time.Duration   // how long the next wait is, if the service names no time
	answered bool            // a task was answered since then
	task     contract.TaskID // the first task that was refused since a task was answered
	others   bool            // other tasks were refused since, too
}

// refused returns how long a refused task waits, and whether the whole shard waits with it; sent is when the task was sent.
// The shard waits, unless the task was refused before, and either other tasks
// were answered meanwhile, or no other task was refused and the service names no time: then it seems that the
// service refuses only this task.
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
	case sent.Before(s.began): // one of several tasks that were refused at the same time
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

// took records that a task was answered; sent is when the task was sent.
func (s *shedding) took(sent time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sent.After(s.began) {
		s.answered, s.silent, s.task, s.others = true, 0, contract.TaskID{}, false
	}
}
