// Package subtraction serves arithmetic.v1.SubtractionService.
package subtraction

import (
	"context"

	"connectrpc.com/connect/v2"

	arithmeticv1 "holdline/gen/arithmetic/v1"
	"holdline/gen/arithmetic/v1/arithmeticv1connect"
)

// Register mounts the service on a server.
func Register(server *connect.Server) {
	arithmeticv1connect.RegisterSubtractionServiceHandler(server, handler{})
}

type handler struct{}

// Subtract implements arithmeticv1connect.SubtractionServiceHandler.
func (handler) Subtract(_ context.Context, req *arithmeticv1.SubtractRequest) (*arithmeticv1.SubtractResponse, error) {
	return &arithmeticv1.SubtractResponse{Result: req.GetA() - req.GetB()}, nil
}
