package contract

import (
	"fmt"
	"strings"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
)

// meaning is what the state of a task means to those who read the task.
type meaning struct {
	open     bool         // the task may still get an answer by itself
	answered bool         // its answer is the service's, as long as it is kept
	reason   momv1.Reason // what is said in an answer's place
	say      func(*momv1.Task) string
}

// states is the one table of the states.
var states = map[momv1.TaskState]meaning{
	momv1.TaskState_TASK_STATE_QUEUED:    {open: true},
	momv1.TaskState_TASK_STATE_RUNNING:   {open: true},
	momv1.TaskState_TASK_STATE_RETRYING:  {open: true},
	momv1.TaskState_TASK_STATE_SUCCEEDED: {answered: true, reason: momv1.Reason_REASON_ANSWER_EXPIRED, say: sayForgotten},
	momv1.TaskState_TASK_STATE_FAILED:    {answered: true, reason: momv1.Reason_REASON_ANSWER_EXPIRED, say: sayForgotten},
	momv1.TaskState_TASK_STATE_CANCELLED: {reason: momv1.Reason_REASON_TASK_CANCELLED, say: func(t *momv1.Task) string {
		return "the task was cancelled; " + ran(t)
	}},
	momv1.TaskState_TASK_STATE_EXPIRED: {reason: momv1.Reason_REASON_TASK_EXPIRED, say: func(t *momv1.Task) string {
		return "the task expired without an answer; " + ran(t)
	}},
	momv1.TaskState_TASK_STATE_DEAD: {reason: momv1.Reason_REASON_ATTEMPTS_SPENT, say: func(t *momv1.Task) string {
		return fmt.Sprintf("no more attempts: %s; the last failure was %q", ran(t), t.GetLastFailure())
	}},
	momv1.TaskState_TASK_STATE_UNCERTAIN: {reason: momv1.Reason_REASON_OUTCOME_UNKNOWN, say: func(t *momv1.Task) string {
		return fmt.Sprintf("%s (%s), and its method does not say that it may run twice", ran(t), t.GetLastFailure())
	}},
}

func sayForgotten(*momv1.Task) string { return "the answer is no longer kept" }

// IsOpen tells whether a task may still get an answer by itself.
func IsOpen(state momv1.TaskState) bool { return states[state].open }

// IsAnswered tells whether a task has ended with the service's answer.
func IsAnswered(state momv1.TaskState) bool { return states[state].answered }

// StateName is a state as command line and metrics name it, such as "queued".
func StateName(state momv1.TaskState) string {
	return strings.ToLower(strings.TrimPrefix(state.String(), "TASK_STATE_"))
}

// TaskError is the error that a task ended with. Held callers, callers with its key and readers all get
// this error. It is nil when the answer is a message, and Stored when the task is open.
func TaskError(task *momv1.Task, answer *momv1.Answer) error {
	means := states[task.GetState()]
	switch {
	case means.answered && answer.GetError() != nil:
		return AnswerError(answer.GetError())
	case means.answered && answer != nil:
		return nil
	case means.say != nil:
		return Errorf(means.reason, "%s", means.say(task))
	}
	return Stored(&momv1.TaskHandle{Id: task.GetId(), State: task.GetState(), ExpireTime: task.GetExpireTime()})
}

// ran says whether a call without an answer may have been executed. A repeatable call may also have
// been executed before it was stored, when the gateway tried it.
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

// AnswerError rebuilds the error that the service answered with: connect turns
// errors that came over the wire into `internal`.
func AnswerError(e *momv1.CallError) error {
	err := connect.NewError(connect.Code(e.GetCode()), e.GetMessage()+string(e.GetRawMessage()))
	for _, detail := range e.GetDetails() {
		// With a host connect takes the type as it is; the usual one it adds by itself.
		usual := strings.TrimPrefix(detail.GetTypeUrl(), "type.googleapis.com/")
		err = err.WithDetail(&connect.ErrorDetail{Type: usual, Value: detail.GetValue()})
	}
	return err
}
