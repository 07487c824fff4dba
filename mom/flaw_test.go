package mom_test

import (
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	arithmeticv1 "holdline/gen/arithmetic/v1"
	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/contract"
	"holdline/mom"
)

// A stored call that cannot be sent as it is holds up nobody. One that no MOM and no
// service can mend waits for a person at once, any other for better days; none has run,
// and none is said to have.
func TestStoredCallsThatCannotBeSent(t *testing.T) {
	t.Parallel()
	const dead, retrying = momv1.TaskState_TASK_STATE_DEAD, momv1.TaskState_TASK_STATE_RETRYING
	for name, c := range map[string]struct {
		spoil func(*momv1.Call)
		state momv1.TaskState
		words string
	}{
		"header name": {func(call *momv1.Call) {
			call.Header = []*momv1.Metadata{{Key: "Not A Name", Values: []string{"x"}}}
		}, dead, "cannot be sent: one of its headers is not valid in HTTP"},
		"header value": {func(call *momv1.Call) {
			call.Header = []*momv1.Metadata{{Key: "Page", Values: []string{"1\r\n2"}}}
		}, dead, "cannot be sent: one of its headers is not valid in HTTP"},
		"protocol": {func(call *momv1.Call) { call.Protocol = "thrift" }, retrying, "cannot be sent: the MOM does not speak its protocol"},
		"method": {func(call *momv1.Call) { call.Procedure = "/arithmetic.v1.SumService/Average" }, retrying,
			"cannot be sent: its method is in no schema of the MOM"},
		"stream": {func(call *momv1.Call) { call.Procedure = momv1connect.QueueServiceWatchQueuesProcedure }, retrying,
			"cannot be sent: by the MOM's schema its method is a stream"},
	} {
		for _, httpMajor := range []int32{1, 2} {
			t.Run(name+" HTTP/"+strconv.Itoa(int(httpMajor)), func(t *testing.T) {
				t.Parallel()
				s := new(away)
				client := s.start(t)
				message, err := proto.Marshal(&arithmeticv1.SumRequest{A: 1, B: 2})
				if err != nil {
					t.Fatal(err)
				}
				call := &momv1.Call{
					RecordVersion: 1, Procedure: arithmeticv1connect.SumServiceSumProcedure, Caller: contract.Anonymous,
					Protocol: "connect", HttpMajor: httpMajor, Message: message,
				}
				c.spoil(call)
				id := newID()
				if _, err := s.Store.Add(t.Context(), mom.NewTask{ID: id, Call: call, TTL: time.Hour, AnswerTTL: time.Hour, Kept: true}); err != nil {
					t.Fatal(err)
				}
				var task *momv1.Task
				for task.GetState() != c.state {
					if task, _, err = s.Store.Get(t.Context(), id); err != nil {
						t.Fatal(err)
					}
				}
				if task.GetAttempts() != 0 || task.GetLastFailure() != c.words {
					t.Errorf("got %v, want no attempt, and %q", task, c.words)
				}
				offer(t, client, newID()) // behind it
			})
		}
	}
}
