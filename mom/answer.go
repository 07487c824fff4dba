package mom

import (
	"fmt"
	"strings"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// outcome is the error that a task came to, nil when it has an answer that is a
// message: the one table of what held callers, attached ones and readers get.
func outcome(task *momv1.Task, answer *momv1.Answer) error {
	switch task.GetState() {
	case momv1.TaskState_TASK_STATE_SUCCEEDED, momv1.TaskState_TASK_STATE_FAILED:
		switch {
		case answer == nil:
			return contract.Errorf(momv1.Reason_REASON_ANSWER_EXPIRED, "the answer is no longer kept")
		case answer.GetError() != nil:
			return finalError(answer.GetError())
		}
		return nil
	case momv1.TaskState_TASK_STATE_CANCELLED:
		return contract.Errorf(momv1.Reason_REASON_TASK_CANCELLED, "the task was cancelled; %s", ran(task))
	case momv1.TaskState_TASK_STATE_EXPIRED:
		return contract.Errorf(momv1.Reason_REASON_TASK_EXPIRED, "the task expired without an answer; %s", ran(task))
	case momv1.TaskState_TASK_STATE_DEAD:
		return contract.Errorf(momv1.Reason_REASON_ATTEMPTS_SPENT, "no more attempts: %s; the last failure was %q", ran(task), task.GetLastFailure())
	case momv1.TaskState_TASK_STATE_UNCERTAIN:
		return contract.Errorf(momv1.Reason_REASON_OUTCOME_UNKNOWN, "%s (%s), and its method does not say that it may run twice", ran(task), task.GetLastFailure())
	}
	return contract.Stored(&momv1.TaskHandle{Id: task.GetId(), State: task.GetState(), ExpireTime: task.GetExpireTime()})
}

// ran says what is known of a call that has no answer. A repeatable call may have
// been executed before it was stored as well, when the gateway tried it.
func ran(task *momv1.Task) string {
	switch attempts := task.GetAttempts() + task.GetEarlierAttempts(); {
	case attempts == 1:
		return "the call may have been executed in one attempt"
	case attempts > 1:
		return fmt.Sprintf("the call may have been executed in %d attempts", attempts)
	case task.GetCause() != "":
		return fmt.Sprintf("the call was stored for %s, and was not executed since then", task.GetCause())
	}
	return "the call was not executed"
}

// finalError rebuilds the error that the service answered with: connect turns
// errors that came over the wire into `internal`.
func finalError(e *momv1.CallError) error {
	err := connect.NewError(connect.Code(e.GetCode()), e.GetMessage())
	for _, detail := range e.GetDetails() {
		if d, detailErr := connectproto.NewErrorDetail(detail); detailErr == nil { // an Any is taken as it is
			err = err.WithDetail(d)
		}
	}
	return err
}

// ofRequest are headers of a request that end with its hand-off: they were for
// the gateway and the MOM, or are kept in fields of their own.
var ofRequest = map[string]bool{
	contract.HeaderKey: true, contract.HeaderPrefer: true, contract.HeaderTTL: true, contract.HeaderAnswerTTL: true,
	contract.HeaderMode: true, contract.HeaderExplain: true, contract.HeaderTask: true, contract.HeaderCaller: true,
	contract.HeaderCause: true, contract.HeaderOffer: true, contract.HeaderSchema: true, contract.HeaderKept: true, "Traceparent": true, "Tracestate": true,
}

// ofTransport are headers that the transport writes anew.
var ofTransport = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Accept-Post": true, "Allow": true, "Content-Encoding": true, "Content-Length": true,
	"Content-Type": true, "Date": true, "Expect": true, "Host": true, "Te": true, "Trailer": true, "Vary": true,
}

// metadata is what is kept of headers or trailers, without some: what application
// wrote to application.
func metadata(header *connect.Header, without map[string]bool) (list []*momv1.Metadata) {
	for key, values := range header.All() {
		if without[key] || ofTransport[key] || strings.HasPrefix(key, "Connect-") || strings.HasPrefix(key, "Grpc-") {
			continue
		}
		list = append(list, &momv1.Metadata{Key: key, Values: values})
	}
	return list
}

func addMetadata(header *connect.Header, list []*momv1.Metadata) {
	for _, m := range list {
		header.SetValues(m.GetKey(), m.GetValues())
	}
}
