package main

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"holdline/gateway"
	"holdline/internal/server"
	"holdline/internal/server/servertest"
)

// The interoperability tests of gRPC pass through the gateway, with grpc-go at both ends.
func TestGRPCInterop(t *testing.T) {
	t.Parallel()
	client, image := tool(t, "client"), filepath.Join(t.TempDir(), "interop.binpb")
	writeImage(t, image, testgrpc.File_grpc_testing_test_proto)
	service := servertest.GRPC(t, "127.0.0.1:0", &testgrpc.TestService_ServiceDesc, interop.NewTestServer())
	for name, engine := range engines {
		for _, images := range [][]string{nil, {image}} {
			addr, _ := servertest.Run(t, server.Config{Handler: newGateway(t, gateway.Config{Engine: engine}, images, "grpc.testing.TestService=http://"+service), Engine: engine})
			host, port, err := net.SplitHostPort(addr)
			if err != nil {
				t.Fatal(err)
			}
			for _, test := range []string{
				"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream", "timeout_on_sleeping_server", "cancel_after_begin",
				"cancel_after_first_response", "status_code_and_message", "special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service",
			} {
				t.Run(fmt.Sprintf("%s/known=%t/%s", name, images != nil, test), func(t *testing.T) {
					t.Parallel()
					said, err := exec.CommandContext(t.Context(), client, "-server_host", host, "-server_port", port, "-test_case", test).CombinedOutput()
					if err != nil {
						t.Errorf("%v\n%s", err, said)
					}
				})
			}
		}
	}
}
