package e2e

import (
	"net/http"
	"slices"
	"testing"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
)

const (
	noEnd         = momv1.TaskState_TASK_STATE_QUEUED
	ended         = momv1.TaskState_TASK_STATE_SUCCEEDED
	uncertain     = momv1.TaskState_TASK_STATE_UNCERTAIN
	expired       = momv1.TaskState_TASK_STATE_EXPIRED
	cancelledTask = momv1.TaskState_TASK_STATE_CANCELLED
)

// succeeded is the end of a task with an answer.
func succeeded(amount int64, text string) ending {
	return ending{
		state: ended, status: [2]int{http.StatusOK, http.StatusOK}, amount: amount,
		proto: [2]string{text, text}, json: [2]string{text, text},
	}
}

// The checker of the chaos test must find what is broken, and nothing else.
func TestHistoryCheck(t *testing.T) {
	t.Parallel()
	direct, held := reply{kind: answered, amount: 8}, reply{kind: answered, amount: 8, task: "T"}
	stored := reply{kind: handle, task: "T"}
	no := func(code connect.Code, reason momv1.Reason) reply {
		return reply{kind: refused, code: code, reason: reason}
	}
	unavailable := no(connect.CodeUnavailable, momv1.Reason_REASON_STORE_UNAVAILABLE)
	// Runs are those of the call without a name.
	elsewhere := func(r reply) reply { r.call = "other"; return r }
	unsure := no(connect.CodeUnavailable, momv1.Reason_REASON_STORE_UNCERTAIN)
	unknown := no(connect.CodeUnknown, momv1.Reason_REASON_OUTCOME_UNKNOWN)
	nothing := reply{kind: broken}
	good := succeeded(8, "eight")
	is := func(state momv1.TaskState) ending { return ending{state: state} }
	twice := func(change func(*ending)) ending { e := good; change(&e); return e }

	for _, c := range []struct {
		name    string
		request request
		runs    int
		task    ending // of T
		want    []fault
	}{
		{"answered", request{method: "Post", replies: []reply{direct}}, 1, ending{}, nil},
		{"repeatable, ran twice", request{method: "Read", replies: []reply{direct}}, 2, ending{}, nil},
		{"held, then answered", request{method: "Post", replies: []reply{held}}, 1, good, nil},
		{"handle, then answered", request{method: "Post", replies: []reply{stored}}, 1, good, nil},
		{"refused", request{method: "Post", replies: []reply{unavailable}}, 0, ending{}, nil},
		{"refused, and sent again", request{method: "Post", replies: []reply{elsewhere(unavailable), elsewhere(unavailable), direct}}, 1, ending{}, nil},
		{"refused, and may have run", request{method: "Read", replies: []reply{unsure}}, 1, ending{}, nil},
		{"unknown, and did not run", request{method: "Post", replies: []reply{unknown}}, 0, ending{}, nil},
		{"unknown, and ran", request{method: "Post", replies: []reply{unknown}}, 1, ending{}, nil},
		{"nothing came back", request{method: "Post", replies: []reply{nothing}}, 1, ending{}, nil},
		{"one key, one task", request{method: "Post", key: "k", replies: []reply{nothing, stored, held}}, 1, good, nil},
		{"uncertain", request{method: "Post", replies: []reply{stored}}, 1, is(uncertain), nil},
		{"expired, as asked", request{method: "Post", short: true, replies: []reply{stored}}, 0, is(expired), nil},
		{"cancelled, as asked", request{method: "Read", cancelled: true, replies: []reply{stored}}, 0, is(cancelledTask), nil},
		{"sent again, then cancelled", request{method: "Read", cancelled: true, replies: []reply{nothing, stored}}, 1, is(cancelledTask), nil},

		{"undeclared, ran twice", request{method: "Post", replies: []reply{direct}}, 2, ending{}, []fault{doubled}},
		{"unknown, ran twice", request{method: "Post", replies: []reply{unknown}}, 2, ending{}, []fault{doubled}},
		{"nothing came back, ran twice", request{method: "Post", replies: []reply{nothing}}, 2, ending{}, []fault{doubled}},
		{"uncertain, ran twice", request{method: "Post", replies: []reply{stored}}, 2, is(uncertain), []fault{doubled}},
		{"one key, two tasks", request{method: "Read", key: "k", replies: []reply{stored, {kind: handle, task: "U"}}}, 1, good, []fault{doubled}},
		{"not executed, and ran", request{method: "Post", replies: []reply{unavailable}}, 1, ending{}, []fault{untrue}},
		{"not executed, and ran, and sent again", request{method: "Post", replies: []reply{unavailable, elsewhere(direct)}}, 1, ending{}, []fault{untrue}},
		{"undeclared, may be sent again", request{method: "Post", replies: []reply{unsure, nothing}}, 0, ending{}, []fault{untrue}},
		{"repeatable, may not be sent again", request{method: "Read", replies: []reply{unknown}}, 1, ending{}, []fault{untrue}},
		{"refused with an error nobody promised", request{method: "Read", replies: []reply{no(connect.CodeInternal, 0)}}, 0, ending{}, []fault{untrue}},
		{"unavailable without a reason", request{method: "Read", replies: []reply{no(connect.CodeUnavailable, 0)}}, 0, ending{}, []fault{untrue}},
		{"not found", request{method: "Read", key: "k", replies: []reply{no(connect.CodeNotFound, momv1.Reason_REASON_TASK_NOT_FOUND)}}, 0, ending{}, []fault{untrue}},
		{"a wrong answer", request{method: "Read", replies: []reply{{kind: answered, amount: 9}}}, 1, ending{}, []fault{wrong}},
		{"answered, never ran", request{method: "Read", replies: []reply{direct}}, 0, ending{}, []fault{wrong}},
		{"stored answer, never ran", request{method: "Read", replies: []reply{stored}}, 0, good, []fault{wrong}},
		{"a wrong stored answer", request{method: "Read", replies: []reply{stored}}, 1, succeeded(9, "nine"), []fault{wrong}},
		{"answered, then uncertain", request{method: "Post", replies: []reply{held}}, 1, is(uncertain), []fault{wrong}},
		{"answered twice, other bytes", request{method: "Read", replies: []reply{stored}}, 1,
			twice(func(e *ending) { e.proto[1] = "neuf" }), []fault{wrong}},
		{"answered twice, other JSON", request{method: "Read", replies: []reply{stored}}, 1,
			twice(func(e *ending) { e.json[1] = "neuf" }), []fault{wrong}},
		{"repeatable, uncertain", request{method: "Read", replies: []reply{stored}}, 1, is(uncertain), []fault{wrong}},
		{"expired, and ran", request{method: "Post", short: true, replies: []reply{stored}}, 1, is(expired), []fault{wrong}},
		{"cancelled, and ran", request{method: "Post", cancelled: true, replies: []reply{stored}}, 1, is(cancelledTask), []fault{untrue}},

		{"cancelled, though nobody asked for it", request{method: "Post", replies: []reply{no(connect.CodeCanceled, momv1.Reason_REASON_TASK_CANCELLED)}}, 0, ending{}, []fault{untrue}},
		{"its caller left", request{method: "Post", left: true, replies: []reply{nothing}}, 0, ending{}, nil},
		{"its caller left, and it ran twice", request{method: "Post", left: true, replies: []reply{nothing}}, 2, ending{}, []fault{doubled}},

		{"accepted, not found", request{method: "Read", replies: []reply{stored}}, 0, ending{}, []fault{lost}},
		{"accepted, no end", request{method: "Read", replies: []reply{stored}}, 1, is(noEnd), []fault{lost}},
		{"accepted, no task", request{method: "Read", replies: []reply{{kind: handle}}}, 0, ending{}, []fault{lost}},
		{"the second reading finds nothing", request{method: "Read", replies: []reply{stored}}, 1,
			twice(func(e *ending) { e.status[1] = http.StatusNotFound }), []fault{lost}},
		{"expired without being told", request{method: "Read", replies: []reply{stored}}, 0, is(expired), []fault{lost}},
		{"cancelled by nobody", request{method: "Post", replies: []reply{stored}}, 0, is(cancelledTask), []fault{lost}},
		{"failed", request{method: "Read", replies: []reply{stored}}, 1, is(momv1.TaskState_TASK_STATE_FAILED), []fault{lost}},
		{"all attempts spent", request{method: "Read", replies: []reply{stored}}, 20, is(momv1.TaskState_TASK_STATE_DEAD), []fault{lost}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.request.amount = 7
			h := history{
				requests: []*request{&c.request}, runs: map[int64][]ran{7: make([]ran, c.runs)},
				tasks: map[string]ending{"T": c.task, "U": good},
			}
			var got []fault
			for _, f := range h.check() {
				got = append(got, f.fault)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("found %v, want %v", h.check(), c.want)
			}
		})
	}
}
