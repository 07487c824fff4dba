package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/redistest"
	"holdline/internal/stack"
)

// A task whose method a MOM does not know waits for one that does, and holds up
// nobody.
func TestUnknownMethod(t *testing.T) {
	t.Parallel()
	addr, redis := freeport.Addr(t), redistest.Start(t)
	with := func(schema string) stack.Config {
		return stack.Config{Redis: redis, RedisPrefix: "TestUnknownMethod:", Schemas: []string{schema}, Routes: []string{ledgerService + "=http://" + addr}}
	}
	var id string
	t.Run("stored", func(t *testing.T) { // by a MOM that ends with this
		newer := up(t, with(ledgerImage(t)))
		_, info := wire{}.ask(t, newer.Gateway, "Post", amounts(t, 1), "Prefer: respond-async")
		id = info.ResponseHeader().Get(contract.HeaderTask)
	})

	old := proto.CloneOf(ledgerFile())
	old.Service[0].Method = old.Service[0].Method[:1] // Read alone
	raw, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{old}})
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "old.binpb")
	if err := os.WriteFile(image, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	l := &ledger{}
	run(t, l.serve(t, addr))
	older, stop := upUntil(t, with(image))
	task := awaitState(t, older.Gateway, id, momv1.TaskState_TASK_STATE_RETRYING)
	if want := "cannot be sent: its method is in no schema of the MOM"; task.GetLastFailure() != want || task.GetAttempts() != 0 {
		t.Errorf("got %v, want no attempt and %q", task, want)
	}
	if got, _ := (wire{}).ask(t, older.Gateway, "Read", amounts(t, 2), "Prefer: respond-async, wait=60"); got.code != 0 {
		t.Errorf("a call behind it: got %v, want its answer", got)
	}
	if got := l.ran(1); got != 0 {
		t.Errorf("it ran %d times, want it to wait", got)
	}
	stop() // it might be the first to look again and again, with longer and longer pauses
	newer := up(t, with(ledgerImage(t)))
	awaitState(t, newer.Gateway, id, momv1.TaskState_TASK_STATE_SUCCEEDED)
}
