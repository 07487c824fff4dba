package client_test

import (
	"context"
	"fmt"
	"net/http"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"holdline/client"
	arithmeticv1 "holdline/gen/arithmetic/v1"
	"holdline/gen/arithmetic/v1/arithmeticv1connect"
)

// A call that is stored, since its service is down, is answered later.
func ExampleTasks_Answer() {
	ctx := context.Background()
	gateway := connect.NewClient(connecthttp.NewTransport(http.DefaultClient, "http://127.0.0.1:8080"))

	sum, err := arithmeticv1connect.NewSumServiceClient(gateway).Sum(ctx, &arithmeticv1.SumRequest{A: 1, B: 2})
	if handle := client.TaskFrom(err); handle != nil { // the service is down: the call is stored
		sum = &arithmeticv1.SumResponse{}
		err = client.New(gateway).Answer(ctx, handle.GetId(), sum) // waits as long as ctx allows
	}
	fmt.Println(sum.GetResult(), err)
}
