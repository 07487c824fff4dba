package gateway

import (
	"net/http"
	"testing"
	"time"

	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// What follows from each reply, in each standing of a hand-off.
func TestFollow(t *testing.T) {
	t.Parallel()
	standings := [...]standing{
		{known: notStored, others: true},
		{known: notStored},
		{known: mayBeStored, others: true},
		{known: mayBeStored},
		{known: isStored},
		{known: notStored, long: true},
		{known: mayBeStored, long: true},
		{known: notStored, others: true, over: true},
		{known: mayBeStored, others: true, over: true},
		{known: isStored, over: true},
	}
	for said, want := range map[reply][len(standings)]action{
		theTasks:     {passOn, passOn, passOn, passOn, passOn, passOn, passOn, passOn, passOn, passOn},
		refusal:      {passOn, passOn, passOn, passOn, passOn, passOn, passOn, passOn, passOn, passOn},
		refusedNow:   {askOther, passOn, askOther, askAgain, askAgain, passOn, askAgain, tellFailed, tellUnsure, giveHandle},
		misplaced:    {askAgain, askAgain, askAgain, askAgain, askAgain, tellFailed, askAgain, tellFailed, tellUnsure, giveHandle},
		cannotTake:   {askOther, tellFailed, askOther, askAgain, askAgain, tellFailed, askAgain, tellFailed, tellUnsure, giveHandle},
		notReached:   {askAgain, askAgain, askAgain, askAgain, askAgain, tellFailed, askAgain, tellFailed, tellUnsure, giveHandle},
		slow:         {askAgain, askAgain, askAgain, askAgain, askAgain, askAgain, askAgain, tellFailed, tellUnsure, giveHandle},
		mayHave:      {askAgain, askAgain, askAgain, askAgain, askAgain, askAgain, askAgain, tellFailed, tellUnsure, giveHandle},
		drained:      {tellFailed, tellFailed, tellUnsure, tellUnsure, giveHandle, tellFailed, tellUnsure, tellFailed, tellUnsure, giveHandle},
		deadlineOver: {tellFailed, tellFailed, tellUnsure, tellUnsure, giveHandle, tellFailed, tellUnsure, tellFailed, tellUnsure, giveHandle},
		callerLeft:   {forget, forget, forget, forget, forget, forget, forget, forget, forget, forget},
	} {
		for i, at := range standings {
			if got := follow(said, at); got != want[i] {
				t.Errorf("reply %d at %+v leads to %d, want %d", said, at, got, want[i])
			}
		}
	}
}

// What an offer came to, by its outcome and by the head of its response.
func TestReplyOf(t *testing.T) {
	t.Parallel()
	head := func(status int, headers ...string) *upstream.Response {
		res := &upstream.Response{Response: &http.Response{StatusCode: status, Header: http.Header{}}}
		for i := 0; i < len(headers); i += 2 {
			res.Header.Set(headers[i], headers[i+1])
		}
		return res
	}
	unimplemented := head(http.StatusOK)
	unimplemented.GRPCStatus = "12"
	for _, c := range []struct {
		name    string
		res     *upstream.Response
		outcome upstream.Outcome
		want    reply
	}{
		{"not sent", nil, upstream.Outcome{Kind: upstream.NotSent, Cause: upstream.DialRefused}, notReached},
		{"not sent in time", nil, upstream.Outcome{Kind: upstream.NotSent, Cause: upstream.TryTimeout}, slow},
		{"refused", nil, upstream.Outcome{Kind: upstream.Refused}, notReached},
		{"broken", nil, upstream.Outcome{Kind: upstream.Broken}, mayHave},
		{"silent", nil, upstream.Outcome{Kind: upstream.Broken, Cause: upstream.TryTimeout}, mayHave},
		{"unsendable", nil, upstream.Outcome{Kind: upstream.Unsendable}, cannotTake},
		{"late", nil, upstream.Outcome{Kind: upstream.DeadlineOver}, deadlineOver},
		{"left", nil, upstream.Outcome{Kind: upstream.CallerLeft, Cause: "caller-left"}, callerLeft},
		{"drained", nil, upstream.Outcome{Kind: upstream.CallerLeft, Cause: gatewayDrains}, drained},
		{"an answer", head(200, contract.HeaderTask, "id"), upstream.Outcome{}, theTasks},
		{"a task that is unavailable", head(503, contract.HeaderTask, "id"), upstream.Outcome{Kind: upstream.Unavailable}, theTasks},
		{"unsure", head(503, contract.HeaderUnsure, "1"), upstream.Outcome{Kind: upstream.Unavailable}, mayHave},
		{"a refusal", head(400, contract.HeaderRefused, contract.RefusedCall), upstream.Outcome{}, refusal},
		{"a refusal for now", head(503, contract.HeaderRefused, contract.RefusedNow), upstream.Outcome{Kind: upstream.Unavailable}, refusedNow},
		{"another shard", head(503, contract.HeaderRefused, contract.RefusedNow, contract.HeaderShards, "64"), upstream.Outcome{}, misplaced},
		{"another secret", head(200, contract.HeaderRefused, contract.RefusedSecret), upstream.Outcome{}, cannotTake},
		{"unavailable", head(200), upstream.Outcome{Kind: upstream.Unavailable}, cannotTake},
		{"exhausted", head(200), upstream.Outcome{Kind: upstream.Exhausted}, cannotTake},
		{"no such path", head(404), upstream.Outcome{}, cannotTake},
		{"not implemented", head(501), upstream.Outcome{}, cannotTake},
		{"unimplemented", unimplemented, upstream.Outcome{}, cannotTake},
		{"a crash", head(500), upstream.Outcome{}, mayHave},
		{"a proxy's 502", head(502), upstream.Outcome{Kind: upstream.Bare}, mayHave},
		{"a page", head(200), upstream.Outcome{}, mayHave},
	} {
		if got := replyOf(c.res, c.outcome); got != c.want {
			t.Errorf("%s is reply %d, want %d", c.name, got, c.want)
		}
	}
}

// A call that no MOM takes is offered a last time at the end of its hand-off, and not after that.
func TestLastOffer(t *testing.T) {
	t.Parallel()
	var took time.Duration
	for pause := firstPause; took < handOffTime; pause = min(2*pause, maxPause) {
		took += pauseAfter(took, pause)
	}
	if took != handOffTime {
		t.Errorf("the last offer comes after %s, want %s", took, handOffTime)
	}
	if got := pauseAfter(handOffTime, maxPause); got != maxPause {
		t.Errorf("later: got a pause of %s, want %s", got, maxPause)
	}
}
