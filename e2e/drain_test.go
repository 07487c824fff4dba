package e2e

import (
	"net/url"
	"testing"

	"holdline/client"
	"holdline/gateway"
	arithmeticv1 "holdline/gen/arithmetic/v1"
	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/route"
	"holdline/internal/server"
	"holdline/internal/stack"
)

// A gateway that drains ends its holds with handles, and the tasks go on though
// their callers' connections end.
func TestGatewayDrains(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Without: []string{"sum"}})
	routes, err := route.ParseTable([]string{"arithmetic.v1.SumService=http://" + s.Service["sum"]})
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := route.LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	log := testLog(t)
	front, err := stack.NewGateway(
		gateway.Config{Routes: routes, Schemas: schemas, MOM: []*url.URL{{Scheme: "http", Host: s.MOM}}, Logger: log},
		server.Config{Addr: "127.0.0.1:0", Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, front)

	held := make(chan error, 1)
	go func() {
		_, err := arithmeticv1connect.NewSumServiceClient(wire{http2: true}.client(t, front.Addr())).Sum(t.Context(), &arithmeticv1.SumRequest{A: 1, B: 2})
		held <- err
	}()
	awaitTasks(t, s.Gateway, 1, momv1.TaskState_TASK_STATE_QUEUED)
	stop()
	handle := client.TaskFrom(<-held)
	if handle == nil {
		t.Fatal("the held caller got no handle")
	}
	startService(t, s, "sum")
	var sum arithmeticv1.SumResponse
	if err := client.New(wire{http2: true}.client(t, s.Gateway)).Answer(t.Context(), handle.GetId(), &sum); err != nil || sum.GetResult() != 3 {
		t.Errorf("answer = %v, %v; want 3", &sum, err)
	}
}
