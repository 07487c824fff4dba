package mom

import (
	"fmt"

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
