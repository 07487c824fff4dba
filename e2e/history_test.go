package e2e

import (
	"fmt"
	"net/http"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/load"
)

// request is one thing that a caller wants done, by however many calls. The answer
// to an amount is one more.
type request struct {
	amount    int64  // no two requests have the same
	method    string // Read may run twice; Post says nothing about it
	key       string
	kind      bool // its entry has one; not in JSON, which a schema that lacks the field refuses
	short     bool // its time to live: it may expire
	cancelled bool // its caller has asked for that, with success or not
	left      bool // its caller did not wait for a reply
	replies   []reply
}

// reply is what came back of one call.
type reply struct {
	call   string // names it
	by     string // wire and gateway
	kind   load.Reply
	amount int64 // answered
	code   connect.Code
	reason momv1.Reason
	text   string // of an error, for whoever looks for its cause
	task   string // where a task was named
}

const (
	answered = load.Answered
	handle   = load.Handle
	refused  = load.Refused
	broken   = load.Broken
)

// accepted calls are those that Holdline has taken upon itself.
func (r reply) accepted() bool { return r.kind == answered || r.kind == handle }

// notExecuted: the caller was told that it may send the call again.
func (r reply) notExecuted() bool {
	return r.kind == refused && (r.code == connect.CodeUnavailable || r.code == connect.CodeResourceExhausted)
}

// ending is what a task has come to, as both gateways tell it.
type ending struct {
	state  momv1.TaskState // unspecified: there is no such task
	status [2]int          // of HTTP, for its answer
	proto  [2]string       // the answer, twice
	json   [2]string
	amount int64
}

// history is all that was seen of a run.
type history struct {
	requests []*request
	runs     map[int64][]ran // by amount, as the services wrote them down
	tasks    map[string]ending
	older    bool // a MOM of an earlier release takes part
}

// ran is one run of a service.
type ran struct {
	call string // that it was for
	task string // empty when the call came directly
}

// A fault is what Holdline must never do.
type fault string

const (
	lost    fault = "lost"
	wrong   fault = "wrong"
	doubled fault = "doubled"
	untrue  fault = "untrue" // what a caller was told
)

// finding is a fault in a history.
type finding struct {
	fault
	text string
}

// check reads a history and returns what is wrong with it.
func (h *history) check() (list []finding) {
	for _, r := range h.requests {
		found := func(f fault, format string, args ...any) {
			text := fmt.Sprintf(format, args...)
			list = append(list, finding{f, fmt.Sprintf("%s of %d, key %q: %s; runs %+v, replies %+v", r.method, r.amount, r.key, text, h.runs[r.amount], r.replies)})
		}
		h.checkRuns(r, found)
		tasks := map[string]bool{}
		for _, reply := range r.replies {
			h.checkReply(r, reply, found)
			if reply.task != "" {
				tasks[reply.task] = true
			}
		}
		if r.key != "" && len(tasks) > 1 {
			found(doubled, "%d tasks under one key", len(tasks))
		}
		for id := range tasks {
			h.checkEnding(r, id, found)
		}
	}
	return list
}

type report func(f fault, format string, args ...any)

// checkRuns holds the ledger against what callers were told.
func (h *history) checkRuns(r *request, found report) {
	runs := len(h.runs[r.amount])
	if r.method != "Post" {
		return
	}
	if runs > 1 {
		found(doubled, "ran more than once")
	}
	for _, reply := range r.replies {
		for _, run := range h.runs[r.amount] {
			if reply.notExecuted() && run.call == reply.call {
				found(untrue, "call %s was said not to be executed, and ran", run.call)
			}
		}
	}
}

func (h *history) checkReply(r *request, reply reply, found report) {
	switch reply.kind {
	case answered:
		if reply.amount != r.amount+1 {
			found(wrong, "answered with %d", reply.amount)
		}
		if len(h.runs[r.amount]) == 0 {
			found(wrong, "answered, and never ran")
		}
		if state := h.tasks[reply.task].state; reply.task != "" && state != momv1.TaskState_TASK_STATE_SUCCEEDED {
			found(wrong, "answered, and its task is %v", state)
		}
	case handle:
		if reply.task == "" {
			found(lost, "a handle without a task")
		}
	case refused:
		// To an earlier release a call that is kept in JSON is a record that it cannot read, and it says so.
		unread := h.older && r.key != "" && reply.code == connect.CodeUnknown && reply.reason == 0
		if !r.mayBe(reply.code, reply.reason) && !unread {
			found(untrue, "refused with %v, %v", reply.code, reply.reason)
		}
	}
}

// mayBe tells whether a request may be refused like that.
func (r *request) mayBe(code connect.Code, reason momv1.Reason) bool {
	switch reason {
	case momv1.Reason_REASON_SERVICE_UNAVAILABLE, momv1.Reason_REASON_STORE_UNAVAILABLE:
		return code == connect.CodeUnavailable
	case momv1.Reason_REASON_STORE_UNCERTAIN: // it may be sent again
		return code == connect.CodeUnavailable && r.method == "Read"
	case momv1.Reason_REASON_OUTCOME_UNKNOWN: // it may not
		return code == connect.CodeUnknown && r.method == "Post"
	case momv1.Reason_REASON_QUEUE_FULL:
		return code == connect.CodeResourceExhausted
	case momv1.Reason_REASON_TASK_EXPIRED:
		return code == connect.CodeDeadlineExceeded && r.short
	case momv1.Reason_REASON_TASK_CANCELLED:
		return code == connect.CodeCanceled && (r.cancelled || r.left)
	case momv1.Reason_REASON_UNSPECIFIED: // the caller's own deadline
		return code == connect.CodeDeadlineExceeded
	}
	return false
}

// onlyBy tells whether nothing but one task can have run the request: all else
// that its callers sent was not executed.
func (r *request) onlyBy(id string) bool {
	for _, reply := range r.replies {
		if reply.task != id && (!reply.notExecuted() || reply.reason == momv1.Reason_REASON_STORE_UNCERTAIN) {
			return false
		}
	}
	return true
}

// checkEnding checks what a task that somebody knows of has come to.
func (h *history) checkEnding(r *request, id string, found report) {
	end, ok := h.tasks[id]
	runs := len(h.runs[r.amount])
	switch {
	case !ok || end.state == momv1.TaskState_TASK_STATE_UNSPECIFIED:
		found(lost, "task %s is not found", id)
	case end.state == momv1.TaskState_TASK_STATE_SUCCEEDED:
		h.checkAnswer(r, id, found)
	case end.state == momv1.TaskState_TASK_STATE_UNCERTAIN:
		if r.method != "Post" {
			found(wrong, "task %s is uncertain, and may run twice", id)
		}
	case end.state == momv1.TaskState_TASK_STATE_EXPIRED:
		if !r.short {
			found(lost, "task %s has expired before its time", id)
		}
		if r.method == "Post" && runs > 0 && r.onlyBy(id) {
			found(wrong, "task %s has expired, and ran", id)
		}
	case end.state == momv1.TaskState_TASK_STATE_CANCELLED:
		if !r.cancelled && !r.left {
			found(lost, "task %s is cancelled, which nobody asked for", id)
		}
		if runs > 0 && r.onlyBy(id) {
			found(untrue, "task %s is cancelled, and ran", id)
		}
	default:
		found(lost, "task %s has not ended well: %v", id, end.state)
	}
}

func (h *history) checkAnswer(r *request, id string, found report) {
	end := h.tasks[id]
	if len(h.runs[r.amount]) == 0 {
		found(wrong, "task %s has an answer, and never ran", id)
	}
	for _, status := range end.status {
		if status != http.StatusOK {
			found(lost, "the answer of task %s reads as %d", id, status)
			return
		}
	}
	if end.amount != r.amount+1 {
		found(wrong, "the answer of task %s is %d", id, end.amount)
	}
	if end.proto[0] != end.proto[1] || end.json[0] != end.json[1] {
		found(wrong, "task %s was answered twice, differently: %q, %q", id, end.proto, end.json)
	}
}
