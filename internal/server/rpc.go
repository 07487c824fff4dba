package server

import (
	"net/http"

	connectv1 "connectrpc.com/connect"
	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect/v2"
)

// maxRequestBytes is the maximum size of a message to Holdline's own services.
const maxRequestBytes = 4 << 20

// Mux serves the services of an RPC server over Connect, gRPC and gRPC-Web. It adds grpc.health.v1, which is
// asked by service name, and server reflection.
func Mux(rpc *connect.Server, health grpchealth.Checker, reflect ...grpcreflect.Option) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle(grpchealth.NewHandler(health, connectv1.WithReadMaxBytes(maxRequestBytes)))
	grpcreflect.Register(rpc, reflect...)
	connecthttp.Mount(mux, rpc, connecthttp.WithReadMaxBytes(maxRequestBytes))
	return mux
}
