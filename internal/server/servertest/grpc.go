package servertest

import (
	"net"
	"testing"

	"google.golang.org/grpc"
)

// GRPC runs a service on a stock server of grpc-go until the test ends, and returns where it listens.
func GRPC(tb testing.TB, addr string, service *grpc.ServiceDesc) string {
	tb.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	s := grpc.NewServer()
	s.RegisterService(service, nil)
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
