package gateway

import (
	"errors"
	"net/http"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// refuse decides what an outcome leads to: nil passes on what there is, an error
// takes its place. `unavailable` is promised to mean that sending the call again
// is safe, so it is only said of calls that did not run or may run twice.
func refuse(outcome upstream.Outcome, c *call) *connect.Error {
	switch outcome.Kind {
	case upstream.NotSent, upstream.Refused:
		return contract.Errorf(momv1.Reason_REASON_SERVICE_UNAVAILABLE,
			"%s cannot be reached (%s); the call was not executed", c.target.route.Service, outcome.Cause)
	case upstream.Broken, upstream.Bare:
		if c.repeatable() {
			return contract.Errorf(momv1.Reason_REASON_SERVICE_UNAVAILABLE,
				"%s did not answer (%s); the call may be sent again", c.target.route.Service, outcome.Cause)
		}
		return contract.Errorf(momv1.Reason_REASON_OUTCOME_UNKNOWN,
			"%s did not answer (%s); the call may have been executed", c.target.route.Service, outcome.Cause)
	case upstream.DeadlineOver:
		return connect.Errorf(connect.CodeDeadlineExceeded,
			"%s did not answer in the time that the caller gave", c.target.route.Service)
	}
	return nil
}

func noRoute(service string) *connect.Error {
	return contract.Errorf(momv1.Reason_REASON_NO_ROUTE,
		"no route for service %q; gateway.v1.DirectoryService lists those there are", service)
}

// badBody is for a body that ends before its time or is not well formed.
func badBody(err error) *connect.Error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return connect.Errorf(connect.CodeResourceExhausted, "request body is larger than %d bytes", tooLarge.Limit)
	}
	return connect.NewError(connect.CodeInvalidArgument, "request body cannot be read to its end")
}
