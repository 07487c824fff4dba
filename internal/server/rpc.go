package server

import (
	"net/http"

	connectv1 "connectrpc.com/connect"
	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect/v2"
)

// maxRequestBytes bounds a message that Holdline's own services take.
const maxRequestBytes = 4 << 20

// Mux mounts the services of an RPC server in all three protocols, with
// grpc.health.v1 by service name and server reflection beside them.
func Mux(rpc *connect.Server, health grpchealth.Checker, reflect ...grpcreflect.Option) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle(grpchealth.NewHandler(health, connectv1.WithReadMaxBytes(maxRequestBytes)))
	grpcreflect.Register(rpc, reflect...)
	connecthttp.Mount(mux, rpc, connecthttp.WithReadMaxBytes(maxRequestBytes))
	return mux
}
