package bridge

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"holdline/internal/cores"
	"holdline/internal/route"
)

// A large message takes long to read, and others need not wait for that.
func TestLargeMessagesUseAllCores(t *testing.T) { // not parallel: it changes what the process has
	runtime.SetDefaultGOMAXPROCS() // go test -cpu may have set another number
	if runtime.GOMAXPROCS(0) == 1 {
		t.Skip("there is only one core")
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		cores.Save(ctx)
	}()
	defer func() { cancel(); <-over }()
	for runtime.GOMAXPROCS(0) != 1 { // or the test times out
		time.Sleep(time.Millisecond)
	}
	text := wrapperspb.String("").ProtoReflect().Descriptor()
	for _, size := range []int{100, slow} {
		if _, _, err := Decode([]byte(`"`+strings.Repeat("x", size)+`"`), true, text, new(route.Schemas)); err != nil {
			t.Fatal(err)
		}
		if all := runtime.GOMAXPROCS(0) > 1; all != (size == slow) {
			t.Errorf("after a message of %d bytes all cores: %t", size, all)
		}
	}
}
