package bridge

import (
	"net/http"
	"sync"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"holdline/internal/route"
)

// Handlers are connect's handlers of methods, each made when it is first needed: schemas may be learned
// while callers call. They are safe for concurrent use.
type Handlers struct {
	make func(*route.Method) http.Handler
	made *sync.Map // procedure → handler
}

// handler serves a method until another schema says what it is.
type handler struct {
	of *route.Method
	http.Handler
}

// NewHandlers returns handlers that serve each method by a function.
func NewHandlers(serve func(*route.Method) connect.ServerFunc, interceptors []connect.ServerInterceptor, options ...connecthttp.Option) Handlers {
	return Handlers{func(method *route.Method) http.Handler {
		rpc, mux := connect.NewServer(interceptors...), http.NewServeMux()
		rpc.Register(connect.Method{Spec: method.Spec(), Handler: serve(method)})
		connecthttp.Mount(mux, rpc, options...)
		return mux
	}, new(sync.Map)}
}

// Of returns the handler of a method.
func (h Handlers) Of(method *route.Method) http.Handler {
	found, _ := h.made.Load(method.Procedure)
	made, _ := found.(*handler)
	if made == nil || made.of != method {
		made = &handler{method, h.make(method)}
		h.made.Store(method.Procedure, made)
	}
	return made
}
