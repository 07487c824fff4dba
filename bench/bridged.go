package main

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"connectrpc.com/vanguard"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	arithmeticv1 "holdline/gen/arithmetic/v1"
)

// The commands that make this program a part of the scenario of the bridge: a service that only speaks gRPC, and
// libraries that translate for it. What follows each is LISTEN, and for those BACKEND.
const (
	grpcServiceCommand = "grpc-service"
	vanguardCommand    = "vanguard"
	grpcGatewayCommand = "grpc-gateway"
)

// serveInGRPCAt serves sums at an address with grpc-go.
func serveInGRPCAt(ctx context.Context, listen string) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	return serveInGRPC(ctx, ln)
}

// serveInGRPC serves sums with grpc-go, until ctx ends.
func serveInGRPC(ctx context.Context, ln net.Listener) error {
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{ServiceName: service, Methods: []grpc.MethodDesc{{MethodName: "Sum",
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			asked := new(arithmeticv1.SumRequest)
			if err := decode(asked); err != nil {
				return nil, err
			}
			return &arithmeticv1.SumResponse{Result: asked.GetA() + asked.GetB()}, nil
		}}}}, nil)
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	return s.Serve(ln)
}

// vanguardProxy is vanguard in front of a proxy that passes gRPC.
func vanguardProxy(backend string) (http.Handler, error) {
	proxy := newReverseProxy(backend)
	proxy.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	sum := arithmeticv1.File_arithmetic_v1_sum_proto.Services().ByName("SumService")
	return vanguard.NewTranscoder([]*vanguard.Service{vanguard.NewServiceWithSchema(sum, proxy,
		vanguard.WithTargetProtocols(vanguard.ProtocolGRPC), vanguard.WithTargetCodecs(vanguard.CodecProto))})
}

// grpcGateway is what grpc-gateway generates for a method, at the path of Connect.
func grpcGateway(backend string) (http.Handler, error) {
	conn, err := grpc.NewClient(backend, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	mux := runtime.NewServeMux()
	err = mux.HandlePath(http.MethodPost, procedure, func(w http.ResponseWriter, r *http.Request, _ map[string]string) {
		in, out := runtime.MarshalerForRequest(mux, r)
		ctx, err := runtime.AnnotateContext(r.Context(), mux, r, procedure)
		asked, answer := new(arithmeticv1.SumRequest), new(arithmeticv1.SumResponse)
		if err == nil {
			err = in.NewDecoder(r.Body).Decode(asked)
		}
		if err != nil {
			runtime.HTTPError(ctx, mux, out, w, r, status.Error(codes.InvalidArgument, fmt.Sprint(err)))
			return
		}
		var metadata runtime.ServerMetadata
		err = conn.Invoke(ctx, procedure, asked, answer, grpc.Header(&metadata.HeaderMD), grpc.Trailer(&metadata.TrailerMD))
		ctx = runtime.NewServerMetadataContext(ctx, metadata)
		if err != nil {
			runtime.HTTPError(ctx, mux, out, w, r, err)
			return
		}
		runtime.ForwardResponseMessage(ctx, mux, out, w, r, answer)
	})
	return mux, err
}
