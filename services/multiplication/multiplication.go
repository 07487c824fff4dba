// Package multiplication serves arithmetic.v1.MultiplicationService.
package multiplication

import (
	"context"

	"connectrpc.com/connect/v2"

	arithmeticv1 "holdline/gen/arithmetic/v1"
	"holdline/gen/arithmetic/v1/arithmeticv1connect"
)

// Register mounts the service on a server.
func Register(server *connect.Server) {
	arithmeticv1connect.RegisterMultiplicationServiceHandler(server, handler{})
}

type handler struct{}

// Multiply implements arithmeticv1connect.MultiplicationServiceHandler.
func (handler) Multiply(_ context.Context, req *arithmeticv1.MultiplyRequest) (*arithmeticv1.MultiplyResponse, error) {
	return &arithmeticv1.MultiplyResponse{Result: req.GetA() * req.GetB()}, nil
}
