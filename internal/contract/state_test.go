package contract_test

import (
	"strings"
	"testing"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// What is said of a task without an answer is true of every task of its kind.
func TestTaskErrorIsTrue(t *testing.T) {
	t.Parallel()
	const cancelled, expired = momv1.TaskState_TASK_STATE_CANCELLED, momv1.TaskState_TASK_STATE_EXPIRED
	for name, c := range map[string]struct {
		task   *momv1.Task
		reason momv1.Reason
		want   string
	}{
		"cancelled, asked to be stored": {&momv1.Task{State: cancelled}, momv1.Reason_REASON_TASK_CANCELLED, "the call was not executed"},
		"cancelled, tried before it was stored": {&momv1.Task{State: cancelled, Cause: "reset"}, momv1.Reason_REASON_TASK_CANCELLED,
			"the call was stored for reset, and was not executed since then"},
		"cancelled after a retry": {&momv1.Task{State: cancelled, EarlierAttempts: 1}, momv1.Reason_REASON_TASK_CANCELLED,
			"the call may have been executed in one attempt"},
		"expired, never sent": {&momv1.Task{State: expired}, momv1.Reason_REASON_TASK_EXPIRED, "the call was not executed"},
		"expired between attempts": {&momv1.Task{State: expired, Cause: "dns", Attempts: 2, EarlierAttempts: 1, LastFailure: "reset"},
			momv1.Reason_REASON_TASK_EXPIRED, "the call may have been executed in 3 attempts"},
		"dead": {&momv1.Task{State: momv1.TaskState_TASK_STATE_DEAD, Attempts: 20, LastFailure: "reset"}, momv1.Reason_REASON_ATTEMPTS_SPENT,
			`may have been executed in 20 attempts; the last failure was "reset"`},
		"uncertain": {&momv1.Task{State: momv1.TaskState_TASK_STATE_UNCERTAIN, Attempts: 1, LastFailure: "reset"}, momv1.Reason_REASON_OUTCOME_UNKNOWN,
			"may have been executed in one attempt (reset)"},
	} {
		err := contract.TaskError(c.task, nil)
		if contract.ReasonOf(err) != c.reason || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %v: %s", name, err, c.reason, c.want)
		}
	}
}

// Every state of the schema has its line.
func TestStates(t *testing.T) {
	t.Parallel()
	for number, name := range momv1.TaskState_name {
		state := momv1.TaskState(number)
		err := contract.TaskError(&momv1.Task{State: state}, nil)
		if stored := contract.ReasonOf(err) == momv1.Reason_REASON_CALL_STORED; number != 0 && stored != contract.IsOpen(state) {
			t.Errorf("%s: open is %v, and readers get %v", name, contract.IsOpen(state), err)
		}
		answer := &momv1.Answer{Result: &momv1.Answer_Json{}}
		if err := contract.TaskError(&momv1.Task{State: state}, answer); (err == nil) != contract.IsAnswered(state) {
			t.Errorf("%s: answered is %v, and readers of an answer get %v", name, contract.IsAnswered(state), err)
		}
	}
}
