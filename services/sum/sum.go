// Package sum serves arithmetic.v1.SumService.
package sum

import (
	"context"

	"connectrpc.com/connect/v2"

	arithmeticv1 "holdline/gen/arithmetic/v1"
	"holdline/gen/arithmetic/v1/arithmeticv1connect"
)

// Register mounts the service on a server.
func Register(server *connect.Server) {
	arithmeticv1connect.RegisterSumServiceHandler(server, handler{})
}

type handler struct{}

// Sum implements arithmeticv1connect.SumServiceHandler.
func (handler) Sum(_ context.Context, req *arithmeticv1.SumRequest) (*arithmeticv1.SumResponse, error) {
	return &arithmeticv1.SumResponse{Result: req.GetA() + req.GetB()}, nil
}
