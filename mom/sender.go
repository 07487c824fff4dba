package mom

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/protobuf/types/known/anypb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/bridge"
	"holdline/internal/contract"
	"holdline/internal/reflection"
	"holdline/internal/route"
	"holdline/internal/upstream"
	"holdline/internal/wire"
)

// sender sends tasks to their service, in the protocol and the codec that their callers used, or in
// another one that the service understands. It is safe for concurrent use.
type sender struct {
	service string
	pool    *upstream.Pool
	shelf   *shelf
	says    atomic.Pointer[route.Route] // the route; it may change while tasks are sent
	learner *reflection.Learner
}

func newSender(pool *upstream.Pool, shelf *shelf, r *route.Route, learner *reflection.Learner) *sender {
	s := &sender{service: r.Service, pool: pool, shelf: shelf, learner: learner}
	s.says.Store(r)
	return s
}

// AwaitHealthy waits until the service is healthy, as that of its pool. It was down, and may be another build: it is asked for its schema before a
// task is sent to it.
func (s *sender) AwaitHealthy(ctx context.Context, goOn func() bool) bool {
	healthy := s.pool.AwaitHealthy(ctx, goOn)
	if healthy {
		s.learner.Back(s.service)
	}
	return healthy
}

// Ailment is that of the pool.
func (s *sender) Ailment() string { return s.pool.Ailment() }

// route is the current route of the service.
func (s *sender) route() *route.Route { return s.says.Load() }

// knownMethod has everything that is known about the method of a task. All of it comes from one schema, since another schema may be learned
// while the task is sent.
type knownMethod struct {
	method *route.Method
	types  *route.Schemas
	schema string // its name in the store
}

// repeatable tells whether a task may run more than once: its method must have declared that when the task was
// stored, and must still declare it.
func (k knownMethod) repeatable(lease Lease) bool { return lease.Repeatable && k.method.Repeatable }

// speechOf returns the caller's protocol and codec; false: no release that we know writes such a record.
func speechOf(call *momv1.Call) (bridge.Speech, bool) {
	speech := bridge.Speech{Protocol: call.GetProtocol(), JSON: call.GetCodec() == codecJSON}
	return speech, speech.MediaType() != "" && (speech.JSON || call.GetCodec() == "")
}

// exchange is one request to an endpoint and its response. connect uses it as the HTTP client for
// one call; afterwards it has the facts that connect does not show.
type exchange struct {
	endpoint *upstream.Endpoint
	protocol string // in which the request is sent
	call     *momv1.Call
	alone    bool // it has a connection for itself
	bare     bool // without headers of our own
	safe     bool // the route says that unavailable means not executed

	request wire.Request    // of sendPlain
	ahead   *upstream.Begun // the attempt that sendPlain has begun; nil: none, or it was answered
	came    *wire.Response  // the response to that attempt

	begun    bool // there was a request to be sent
	outcome  upstream.Outcome
	status   int // of HTTP; 0 without a response
	response *http.Response
}

// result is the result of an attempt.
type result struct {
	answer  *momv1.Answer    // may be an error; nil: there is none
	outcome upstream.Outcome // why there is no answer
	refused *refusal         // the service has not run the task, and may take it later
	foreign bool             // the service does not understand the protocol or the codec; then no other field is set
}

// unsent tells whether the service has surely not seen the task.
func (r result) unsent() bool {
	return r.outcome.Kind == upstream.NotSent || r.outcome.Kind == upstream.Refused
}

// send makes one attempt at a call without a known flaw. A call whose headers fit in a direct try also fits in a replay:
// if our own headers make it too large, they are left out.
func (s *sender) send(ctx context.Context, lease Lease, k knownMethod) (res result) {
	caller, _ := speechOf(lease.Call)
	confirmed := false
	var tried []*upstream.Endpoint
	for range s.pool.Len() { // during an update the endpoints may speak different protocols
		endpoint := s.pool.Pick(tried...)
		bridge.Speak(caller.Ways(s.pool, false), func(speech bridge.Speech, less bool) bridge.Heard {
			if less && !confirmed {
				k, confirmed = s.newer(lease.Call, k), true
			}
			raw, err := k.message(lease.Call, speech, false)
			if err != nil && less {
				raw, err = k.message(lease.Call, speech, true)
			}
			if err != nil {
				res = result{outcome: upstream.Outcome{Kind: upstream.Unsendable, Cause: notTranslated.cause}}
				return bridge.Lossy
			}
			if res = s.try(ctx, lease, k, endpoint, speech, raw, false); res.outcome == tooLargeHeaders {
				res = s.try(ctx, lease, k, endpoint, speech, raw, true)
			}
			if res.foreign {
				return bridge.Foreign
			}
			return bridge.Understood
		})
		if !res.foreign {
			return res
		}
		tried = append(tried, endpoint)
	}
	return result{answer: asAnswer(contract.NotUnderstood(s.service, caller.MediaType(), "", false))}
}

// newer asks the service for its schema before fields of a task's message are left out because our schema lacks them.
func (s *sender) newer(call *momv1.Call, k knownMethod) knownMethod {
	s.learner.Confirm(s.service)
	if now, flaw := s.look(call); flaw == nil {
		return now
	}
	return k
}

// tooLargeHeaders is the outcome of a call whose headers are larger than the service accepts.
var tooLargeHeaders = upstream.Outcome{Kind: upstream.Unsendable, Cause: upstream.HeadersTooLarge}

// message is the message of a call, encoded for a protocol and a codec.
func (k knownMethod) message(call *momv1.Call, speech bridge.Speech, less bool) ([]byte, error) {
	came := &bridge.Message{JSON: call.GetCodec() == codecJSON, Bytes: call.GetMessage(), Desc: k.method.Descriptor.Input()}
	return came.In(speech.JSON, k.types, less)
}

// try sends the call once; bare: without headers that its caller did not send. The task's TTL
// bounds the wait for the service, not the attempt: an attempt that has begun may finish.
func (s *sender) try(ctx context.Context, lease Lease, k knownMethod, endpoint *upstream.Endpoint, speech bridge.Speech, raw []byte, bare bool) result {
	call, r := lease.Call, s.route()
	// A call that may not run twice, and a call that may have broken a connection before, has a
	// connection for itself: see docs/adr/0025.
	made := &exchange{endpoint: endpoint, protocol: speech.Protocol, call: call, alone: !lease.Repeatable || lease.Attempts > 0, bare: bare, safe: r.SafeRefusals}
	began := time.Now()
	if res, message := made.sendPlain(ctx, lease, speech, raw, r.AttemptTimeout); res != nil {
		header, trailer := plainMetadata(res, speech.Protocol)
		return k.answer(speech.JSON, message, header, trailer)
	}
	return s.tryByConnect(ctx, lease, k, made, speech, raw, r.AttemptTimeout-time.Since(began))
}

// tryByConnect is try for calls that sendPlain cannot send, or whose response it cannot read.
func (s *sender) tryByConnect(ctx context.Context, lease Lease, k knownMethod, made *exchange, speech bridge.Speech, raw []byte, timeout time.Duration) result {
	call := lease.Call
	// The host is a placeholder: the exchange has its endpoint.
	client := connect.NewClient(connecthttp.NewTransport(made, "http://"+s.service, speech.Options(k.types)...))
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, upstream.ErrTryTimeout)
	defer cancel()
	ctx, info := connect.NewClientContext(ctx)
	addMetadata(info.RequestHeader(), call.GetHeader())
	for _, own := range addedTo(lease) {
		info.RequestHeader().Set(own[0], own[1])
	}
	var message bridge.Message
	err := client.CallUnary(ctx, k.method.Spec(), &bridge.Message{JSON: speech.JSON, Bytes: raw}, &message)
	if err == nil && len(message.Bytes) > bridge.MaxMessage || made.status == http.StatusOK && bridge.TooLarge(err) {
		return result{answer: asAnswer(contract.Errorf(momv1.Reason_REASON_ANSWER_TOO_LARGE, "the call was executed, and its answer is larger than %d bytes, the most that is kept", bridge.MaxMessage))}
	}
	if made.outcome.Foreign() {
		return result{foreign: true}
	}
	// If another Holdline in the service's place answers ANSWER_TOO_LARGE, the call has run.
	if contract.ReasonOf(err) != momv1.Reason_REASON_ANSWER_TOO_LARGE {
		if refused := made.refusal(err, info); refused != nil {
			return result{outcome: made.outcome, refused: refused}
		}
		if outcome, ok := made.noAnswer(ctx, err, lease.Repeatable); ok {
			return result{outcome: outcome}
		}
	}
	header, trailer := metadata(info.ResponseHeader().All(), contract.FromHoldline), metadata(info.ResponseTrailer().All(), contract.FromHoldline)
	if err == nil {
		return k.answer(message.JSON, message.Bytes, header, trailer)
	}
	failed := bridge.CallError(err, info)
	return result{answer: &momv1.Answer{
		Header: header, Trailer: trailer, Result: &momv1.Answer_Error{Error: failed}, Schema: k.schema, RecordVersion: versionOf(false, failed, header, trailer),
	}}
}

// addedTo returns the headers that a task is sent with beside those of its call: its key, and the trace headers, which older releases keep in fields of their own.
func addedTo(lease Lease) (added [][2]string) {
	for _, own := range [...][2]string{
		{contract.HeaderKey, lease.ID.String()}, {"Traceparent", lease.Call.GetTraceParent()}, {"Tracestate", lease.Call.GetTraceState()},
	} {
		if own[1] != "" {
			added = append(added, own)
		}
	}
	return added
}

// answer is the result of an attempt that the service has answered with a message.
func (k knownMethod) answer(json bool, message []byte, header, trailer []*momv1.Metadata) result {
	answer := &momv1.Answer{Header: header, Trailer: trailer, Schema: k.schema, RecordVersion: versionOf(json, nil, header, trailer)}
	if json {
		answer.Result = &momv1.Answer_Json{Json: message}
	} else {
		answer.Result = &momv1.Answer_Message{Message: &anypb.Any{
			TypeUrl: "type.googleapis.com/" + string(k.method.Descriptor.Output().FullName()),
			Value:   message,
		}}
	}
	return result{answer: answer}
}

// noAnswer tells whether an exchange has brought no answer; if so, the outcome is the reason.
func (e *exchange) noAnswer(ctx context.Context, err error, repeatable bool) (upstream.Outcome, bool) {
	switch {
	case e.begun:
	case context.Cause(ctx) != nil:
		return upstream.Outcome{Kind: upstream.NotSent, Cause: "timeout"}, true
	default:
		return upstream.Outcome{Kind: upstream.Unsendable, Cause: notEncoded.cause}, true
	}
	switch e.outcome.Kind {
	case upstream.Answered:
	case upstream.Unavailable, upstream.Exhausted:
		// An error of the service's own: it is the answer, unless the call may be sent again.
		return e.outcome, repeatable
	case upstream.DeadlineOver, upstream.CallerLeft: // we ended it
		return upstream.Outcome{Kind: upstream.Broken, Cause: "cut"}, true
	default:
		return e.outcome, true
	}
	var rpcErr *connect.Error
	switch {
	case err == nil:
		return upstream.Outcome{}, false
	case context.Cause(ctx) != nil:
		return upstream.Outcome{Kind: upstream.Broken, Cause: "timeout"}, true
	case errors.As(err, &rpcErr) && rpcErr.IsRemote(), e.status != http.StatusOK:
		return upstream.Outcome{}, false // an error of the service, or of a server in front of it
	}
	return upstream.Outcome{Kind: upstream.Broken, Cause: "broken-answer"}, true
}

// Do implements connecthttp.HTTPClient.
func (e *exchange) Do(req *http.Request) (*http.Response, error) {
	out, err := upstream.Made(req, int(e.call.GetHttpMajor()))
	if err != nil {
		return nil, err
	}
	e.begun = true
	out.Look, out.Alone, out.Begun = true, e.alone, e.ahead
	if e.bare {
		leaveBare(out, e.call)
	}
	var res *upstream.Response
	if e.came != nil {
		res = upstream.NewResponse(asHTTP(e.came))
	} else if res, e.outcome, err = e.endpoint.Try(req.Context(), out); err != nil {
		return nil, err
	}
	e.response = res.HTTP()
	// For large headers the server itself sends this status, before any handler. For other headers only a handler sends it.
	if res.StatusCode == http.StatusRequestHeaderFieldsTooLarge && upstream.HeaderBytes(out.Header) > upstream.LargeHeaders {
		e.outcome = upstream.Outcome{Kind: upstream.Unsendable, Cause: upstream.HeadersTooLarge}
	}
	bridge.TakeLeniently(e.response, e.protocol)
	e.status = res.StatusCode
	return e.response, nil
}

// leaveBare removes all headers of a request but those that its caller has sent and those that it needs.
// What it removes are a key, a timeout, and connect's headers about itself and about compression.
// Over HTTP/2 the end of the body shows its length, so Content-Length goes, too.
func leaveBare(req *upstream.Request, call *momv1.Call) {
	bare := http.Header{"User-Agent": nil} // nor net/http's own
	for _, key := range []string{"Content-Type", "Te"} {
		if values, ok := req.Header[key]; ok {
			bare[key] = values
		}
	}
	for _, m := range call.GetHeader() {
		bare[m.GetKey()] = req.Header[m.GetKey()]
	}
	req.Header = bare
	if req.HTTPMajor == 2 {
		req.Length = -1
	}
}

// asAnswer makes an answer from an error of Holdline's own, which takes the place of the service's answer.
func asAnswer(err *connect.Error) *momv1.Answer {
	return &momv1.Answer{RecordVersion: recordVersion, Result: &momv1.Answer_Error{Error: bridge.CallError(err, nil)}}
}
