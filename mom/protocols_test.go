package mom_test

import (
	"errors"
	"net/http"
	"testing"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/protobuf/proto"

	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// A caller gets its handle and its answer in its own protocol and codec, and its task is replayed in them.
func TestEachProtocol(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]connecthttp.Option{
		"connect": nil, "connect, JSON": {connecthttp.WithProtoJSON()},
		"gRPC": {connecthttp.WithGRPC()}, "gRPC, JSON": {connecthttp.WithGRPC(), connecthttp.WithProtoJSON()},
		"gRPC-Web": {connecthttp.WithGRPCWeb()}, "gRPC-Web, JSON": {connecthttp.WithGRPCWeb(), connecthttp.WithProtoJSON()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTold(t)
			transport := &http.Transport{Protocols: new(http.Protocols)}
			transport.Protocols.SetUnencryptedHTTP2(true)
			t.Cleanup(transport.CloseIdleConnections)
			client := arithmeticv1connect.NewSumServiceClient(connect.NewClient(connecthttp.NewTransport(&http.Client{Transport: transport}, w.base, options...)))
			id := newID()
			_, info, err := ask(t.Context(), client, map[string]string{contract.HeaderTask: id.String(), contract.HeaderPrefer: "respond-async"})
			if contract.ReasonOf(err) != momv1.Reason_REASON_CALL_STORED || connect.CodeOf(err) != connect.CodeDeadlineExceeded {
				t.Fatalf("got %v, want it stored", err)
			}
			var rpcErr *connect.Error
			handle := new(momv1.TaskHandle)
			for _, detail := range errorDetails(err, &rpcErr) {
				if detail.Type == "mom.v1.TaskHandle" {
					if err := proto.Unmarshal(detail.Value, handle); err != nil {
						t.Fatal(err)
					}
				}
			}
			if handle.GetId() != id.String() || handle.GetState() != queued || handle.GetExpireTime() == nil {
				t.Errorf("handle: got %v, want one of %v", handle, id)
			}
			if pushback := info.ResponseTrailer().Get("Grpc-Retry-Pushback-Ms"); (pushback == "-1") != (info.Protocol != connect.ProtocolNameConnect) {
				t.Errorf("pushback in the trailers of %s: got %q", info.Protocol, pushback)
			}
			w.begin()
			offer(t, client, id)
			offer(t, client, newID())
		})
	}
}

// errorDetails are those of an RPC error.
func errorDetails(err error, rpcErr **connect.Error) []*connect.ErrorDetail {
	if !errors.As(err, rpcErr) {
		return nil
	}
	return (*rpcErr).Details()
}

// Calls wait while their service is down, are answered when it is back, and are replayed once: the key names the
// same task, whose answer it gives again.
func TestKeyedCallIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	client := arithmeticv1connect.NewSumServiceClient(w.rpc)
	headers := func(id contract.TaskID) map[string]string {
		return map[string]string{contract.HeaderTask: id.String(), contract.HeaderKey: "order-18", contract.HeaderPrefer: "wait=60", contract.HeaderCause: "dial-refused"}
	}
	first := newID()
	type answer struct {
		info *connect.CallInfo
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		_, info, err := ask(t.Context(), client, headers(first))
		answered <- answer{info, err}
	}()
	w.await("a service fails: its calls are stored")
	w.begin()
	if a := <-answered; a.err != nil || a.info.ResponseHeader().Get(contract.HeaderReplayed) != "" {
		t.Errorf("the first: got %v, %v, want its answer", a.err, a.info.ResponseHeader())
	}
	res, info, err := ask(t.Context(), client, headers(newID()))
	if err != nil || res.GetResult() != 3 || info.ResponseHeader().Get(contract.HeaderReplayed) != "true" || info.ResponseHeader().Get(contract.HeaderTask) != first.String() {
		t.Errorf("the second: got %v, %v, %v, want the answer of the first", res, err, info.ResponseHeader())
	}
	w.once("the service is back", "stored=1", "replayed=1")
}
