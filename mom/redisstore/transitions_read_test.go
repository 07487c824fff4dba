package redisstore

import (
	"fmt"
	"testing"

	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/proto"

	momv1 "holdline/gen/mom/v1"
	"holdline/mom"
)

// What scripts publish is read back; what nobody can read is left out.
func TestReadTransitions(t *testing.T) {
	t.Parallel()
	a, b := ulid.Make(), ulid.Make()
	answer := &momv1.Answer{RecordVersion: 1, Header: []*momv1.Metadata{{Key: "a", Values: []string{"=9 \n"}}}}
	raw, err := proto.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	queued, succeeded := momv1.TaskState_TASK_STATE_QUEUED, momv1.TaskState_TASK_STATE_SUCCEEDED
	for message, want := range map[string][]mom.Transition{
		a.String() + " 1": {{ULID: a, State: queued}},
		"many " + a.String() + "1 " + b.String() + "4":         {{ULID: a, State: queued}, {ULID: b, State: succeeded}},
		fmt.Sprintf("many %s4=%d %s %s1", a, len(raw), raw, b): {{ULID: a, State: succeeded, Answer: answer}, {ULID: b, State: queued}},
		fmt.Sprintf("many %s4=3 abc %s1", a, b):                {{ULID: a, State: succeeded}, {ULID: b, State: queued}},
		fmt.Sprintf("many %s1 %s4=99 abc", b, a):               {{ULID: b, State: queued}},
		"many":                                                 nil,
		"":                                                     nil,
		a.String():                                             nil,
		a.String() + " x":                                      nil,
		"many " + a.String()[2:] + "11":                        nil,
	} {
		got := readTransitions(message)
		same := len(got) == len(want)
		for i := range got {
			same = same && i < len(want) && got[i].ULID == want[i].ULID && got[i].State == want[i].State && proto.Equal(got[i].Answer, want[i].Answer)
		}
		if !same {
			t.Errorf("%q: got %v, want %v", message, got, want)
		}
	}
}
