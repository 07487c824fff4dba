package bridge

import (
	"context"
	"net/http"
	"sync"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"holdline/internal/route"
	"holdline/internal/wire"
)

// Handlers are connect's handlers of methods, each made when it is first needed: schemas may be learned
// while callers call. They are safe for concurrent use.
type Handlers struct {
	make func(*route.Method) handler
	made *sync.Map // procedure → handler
}

// handler serves a method until another schema says what it is.
type handler struct {
	of *route.Method
	http.Handler
	rpc  *connect.Server
	spec connect.Spec
}

// NewHandlers returns handlers that serve each method by a function.
func NewHandlers(serve func(*route.Method) connect.ServerFunc, interceptors []connect.ServerInterceptor, options ...connecthttp.Option) Handlers {
	return Handlers{func(method *route.Method) handler {
		rpc, mux := connect.NewServer(interceptors...), http.NewServeMux()
		spec := method.Spec()
		rpc.Register(connect.Method{Spec: spec, Handler: serve(method)})
		connecthttp.Mount(mux, rpc, options...)
		return handler{method, mux, rpc, spec}
	}, new(sync.Map)}
}

// Of returns the handler of a method.
func (h Handlers) Of(method *route.Method) http.Handler { return h.of(method) }

// Serve has the function of a method serve a plain call.
func (h Handlers) Serve(ctx context.Context, method *route.Method, call *PlainCall) *wire.Response {
	made := h.of(method)
	call.Info.Spec = made.spec
	return call.respond(made.rpc.Call(ctx, method.Procedure, &call.Info, call))
}

func (h Handlers) of(method *route.Method) *handler {
	found, _ := h.made.Load(method.Procedure)
	made, _ := found.(*handler)
	if made == nil || made.of != method {
		one := h.make(method)
		made = &one
		h.made.Store(method.Procedure, made)
	}
	return made
}
