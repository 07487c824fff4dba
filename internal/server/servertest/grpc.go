package servertest

import (
	"net"
	"testing"

	"google.golang.org/grpc"
)

// GRPC runs a service on a stock server of grpc-go until the test ends, and returns where it listens. impl is what its handlers get.
func GRPC(tb testing.TB, addr string, service *grpc.ServiceDesc, impl any) string {
	tb.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	s := grpc.NewServer()
	s.RegisterService(service, impl)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	tb.Cleanup(func() {
		s.Stop()
		<-done
	})
	return ln.Addr().String()
}
