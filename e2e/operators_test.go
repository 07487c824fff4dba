package e2e

import (
	"sync"
	"testing"

	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/freeport"
)

// admins are the admin listeners of what the tests have started, by the address of a gateway
// or MOM.
var admins sync.Map

// adminOf is where the operators of a gateway or MOM come.
func adminOf(tb testing.TB, addr string) string {
	tb.Helper()
	admin, ok := admins.Load(addr)
	if !ok {
		tb.Fatalf("no admin listener is known of %s", addr)
	}
	return admin.(string)
}

// withAdmin returns the flags of a gateway or MOM at an address that has an admin listener.
func withAdmin(tb testing.TB, addr string) []string {
	tb.Helper()
	admin := freeport.Addr(tb)
	admins.Store(addr, admin)
	return []string{"--listen", addr, "--admin", admin}
}

// queueService speaks to the operators' side of the gateway or MOM at an address.
func queueService(tb testing.TB, addr string) momv1connect.QueueServiceClient {
	tb.Helper()
	return momv1connect.NewQueueServiceClient(wire{http2: true}.client(tb, adminOf(tb, addr)))
}

// everybodysTasks is TaskService as operators see it.
func everybodysTasks(tb testing.TB, addr string) momv1connect.TaskServiceClient {
	tb.Helper()
	return taskService(tb, adminOf(tb, addr))
}
