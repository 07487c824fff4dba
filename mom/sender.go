package mom

import (
	"context"
	"errors"
	"io"
	"net/http"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/protobuf/types/known/anypb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/route"
	"holdline/internal/upstream"
)

// sender sends tasks to their service, in the protocol family that their callers
// used. It is safe for concurrent use.
type sender struct {
	pool    *upstream.Pool
	schemas *route.Schemas
	route   *route.Route
	clients map[string]*connect.Client // by protocol
	schema  string                     // the name that the store knows it by
}

func newSender(pool *upstream.Pool, shelf *shelf, r *route.Route) *sender {
	schemas := shelf.ours
	s := &sender{pool: pool, schemas: schemas, route: r, clients: map[string]*connect.Client{}, schema: shelf.name(r.Service)}
	for protocol, options := range map[string][]connecthttp.Option{
		connect.ProtocolNameConnect: nil,
		connect.ProtocolNameGRPC:    {connecthttp.WithGRPC()},
		connect.ProtocolNameGRPCWeb: {connecthttp.WithGRPCWeb()},
	} {
		options = append(options, connecthttp.WithCodecs(newBinaryCodec(schemas)), connecthttp.WithReadMaxBytes(maxAnswer))
		// The host is a placeholder: each attempt picks its endpoint.
		s.clients[protocol] = connect.NewClient(connecthttp.NewTransport(s, "http://"+pool.Service(), options...))
	}
	return s
}

// attemptKey carries the attempt that a request belongs to.
type attemptKey struct{}

// attempt is what happened below connect.
type attempt struct {
	httpMajor int
	alone     bool // on its connection
	outcome   upstream.Outcome
	status    int // of HTTP; 0 without a response
	response  *http.Response
}

// result is what an attempt came to.
type result struct {
	answer  *momv1.Answer    // may be an error; nil: there is none
	outcome upstream.Outcome // that stands for no answer
	refused *refusal         // the service has not run it, and takes it later
}

// knows tells whether this MOM can send a call. Another, with other schemas or of
// another release, may know one that this does not.
func (s *sender) knows(call *momv1.Call) bool {
	return s.schemas.Method(call.GetProcedure()) != nil && s.clients[call.GetProtocol()] != nil && knownRecord(call.GetRecordVersion())
}

// repeatable tells whether a call that it knows may run more than once: what its method said when it was
// stored does not hold any longer than the method says it.
func (s *sender) repeatable(lease Lease) bool {
	return lease.Repeatable && s.schemas.Method(lease.Call.GetProcedure()).Repeatable
}

// send makes one attempt at a call that it knows.
func (s *sender) send(ctx context.Context, lease Lease) result {
	call := lease.Call
	method := s.schemas.Method(call.GetProcedure())
	timeout := s.route.AttemptTimeout
	if lease.Remaining > 0 {
		timeout = min(timeout, lease.Remaining)
	}
	// One that may not run twice, and one that may have broken a connection, is alone
	// on its own: see docs/adr/0025.
	made := &attempt{httpMajor: int(call.GetHttpMajor()), alone: !lease.Repeatable || lease.Attempts > 0}
	ctx, cancel := context.WithTimeoutCause(context.WithValue(ctx, attemptKey{}, made), timeout, upstream.ErrTryTimeout)
	defer cancel()
	ctx, info := connect.NewClientContext(ctx)
	addMetadata(info.RequestHeader(), call.GetHeader())
	info.RequestHeader().Set(contract.HeaderKey, lease.ID.String())
	for key, value := range map[string]string{"Traceparent": call.GetTraceParent(), "Tracestate": call.GetTraceState()} {
		if value != "" { // in the record of an older release
			info.RequestHeader().Set(key, value)
		}
	}
	var message stored
	err := s.clients[call.GetProtocol()].CallUnary(ctx, specOf(method), &stored{bytes: call.GetMessage()}, &message)
	if err == nil && len(message.bytes) > maxAnswer || made.tooLarge(err) {
		return result{answer: asAnswer(contract.Errorf(momv1.Reason_REASON_ANSWER_TOO_LARGE, "the answer is larger than can be kept"))}
	}
	// What another Holdline behind the service says so has run.
	if contract.ReasonOf(err) != momv1.Reason_REASON_ANSWER_TOO_LARGE {
		if refused := made.refusal(err, info, s.route.SafeRefusals, call.GetIdempotencyKey() != ""); refused != nil {
			return result{outcome: made.outcome, refused: refused}
		}
		if none, ok := made.none(ctx, err, lease.Repeatable); ok {
			return result{outcome: none}
		}
	}
	answer := &momv1.Answer{
		Header:  metadata(info.ResponseHeader(), ofResponse),
		Trailer: metadata(info.ResponseTrailer(), ofResponse),
	}
	if err != nil {
		answer.Result = &momv1.Answer_Error{Error: callError(err)}
	} else {
		answer.Result = &momv1.Answer_Message{Message: &anypb.Any{
			TypeUrl: "type.googleapis.com/" + string(method.Descriptor.Output().FullName()),
			Value:   message.bytes,
		}}
	}
	answer.Schema = s.schema
	answer.RecordVersion = versionOf(answer.GetError(), answer.GetHeader(), answer.GetTrailer())
	return result{answer: answer}
}

// none tells whether an attempt came to no answer, and to what instead.
func (a *attempt) none(ctx context.Context, err error, repeatable bool) (upstream.Outcome, bool) {
	switch a.outcome.Kind {
	case upstream.Answered:
	case upstream.Unavailable, upstream.Exhausted:
		// The service's own word: final, unless it may be asked again.
		return a.outcome, repeatable
	case upstream.DeadlineOver, upstream.CallerLeft: // we ended it
		return upstream.Outcome{Kind: upstream.Broken, Cause: "cut"}, true
	default:
		return a.outcome, true
	}
	var rpcErr *connect.Error
	switch {
	case err == nil:
		return upstream.Outcome{}, false
	case context.Cause(ctx) != nil:
		return upstream.Outcome{Kind: upstream.Broken, Cause: "timeout"}, true
	case errors.As(err, &rpcErr) && rpcErr.IsRemote(), a.status != http.StatusOK:
		return upstream.Outcome{}, false // the service's word, or that of what speaks for it
	}
	return upstream.Outcome{Kind: upstream.Broken, Cause: "broken-answer"}, true
}

// tooLarge tells an answer over the limit, which connect stops reading, from a
// service that says resource_exhausted.
func (a *attempt) tooLarge(err error) bool {
	var rpcErr *connect.Error
	return a.status == http.StatusOK && errors.As(err, &rpcErr) && rpcErr.Code() == connect.CodeResourceExhausted && !rpcErr.IsRemote()
}

// Do implements connecthttp.HTTPClient: one attempt at an endpoint of the route.
func (s *sender) Do(req *http.Request) (*http.Response, error) {
	made, _ := req.Context().Value(attemptKey{}).(*attempt)
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
	}
	req.ProtoMajor = made.httpMajor
	req.Host = "" // the endpoint's own
	res, outcome, err := s.pool.Pick().Try(req.Context(), &upstream.Request{
		In: req, Header: req.Header, Body: body, Length: int64(len(body)), Look: true, Alone: made.alone,
	})
	made.outcome = outcome
	if err != nil {
		return nil, err
	}
	made.status, made.response = res.StatusCode, res.HTTP()
	takeLeniently(made.response)
	return made.response, nil
}

// asAnswer makes an answer of an error that Holdline gives in the service's place.
func asAnswer(err *connect.Error) *momv1.Answer {
	return &momv1.Answer{RecordVersion: recordVersion, Result: &momv1.Answer_Error{Error: callError(err)}}
}
