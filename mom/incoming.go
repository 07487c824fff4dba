package mom

import (
	"context"
	"net/http"

	"golang.org/x/net/http2/hpack"

	"holdline/internal/contract"
	"holdline/internal/wire"
)

// incoming is the HTTP exchange that a call came in, as far as connect does not show it: one of net/http's types, or that of a plain call.
type incoming interface {
	// major is the version of HTTP.
	major() int32
	// setStatus gives an error in the Connect unary protocol the HTTP status of its reason.
	setStatus(err error)
	// sayStored sends a 103 with the id of a task, and when it expires, if that is known.
	sayStored(id, expires string)
}

type incomingKey struct{}

func incomingOf(ctx context.Context) (incoming, bool) {
	x, ok := ctx.Value(incomingKey{}).(incoming)
	return x, ok
}

// withIncoming gives handlers the exchange.
func withIncoming(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &fullIncoming{contract.StatusWriter{ResponseWriter: w}, r.ProtoMajor}
		next.ServeHTTP(x, r.WithContext(context.WithValue(r.Context(), incomingKey{}, x)))
	})
}

// fullIncoming is one of an http.Request.
type fullIncoming struct {
	contract.StatusWriter
	protoMajor int
}

func (x *fullIncoming) major() int32 { return int32(min(x.protoMajor, 2)) }

func (x *fullIncoming) setStatus(err error) { x.Status = contract.Status(err) }

func (x *fullIncoming) sayStored(id, expires string) {
	header := x.Header()
	header.Set(contract.HeaderTask, id)
	if expires != "" {
		header.Set(contract.HeaderExpires, expires)
	}
	contract.Inform(x, http.StatusEarlyHints)
	header.Del(contract.HeaderTask) // connect sets it with the answer
	header.Del(contract.HeaderExpires)
}

// plainIncoming is one of a plain call, and the context of that call.
type plainIncoming struct {
	context.Context
	caller wire.Holding
	http   int32
}

// Value implements context.Context.
func (x *plainIncoming) Value(key any) any {
	if key == (incomingKey{}) {
		return x
	}
	return x.Context.Value(key)
}

func (x *plainIncoming) major() int32 { return x.http }

// setStatus does nothing: who writes the error reads the same table.
func (x *plainIncoming) setStatus(error) {}

func (x *plainIncoming) sayStored(id, expires string) {
	said := []hpack.HeaderField{{Name: wire.Lower(contract.HeaderTask), Value: id}, {Name: wire.Lower(contract.HeaderExpires), Value: expires}}
	if expires == "" {
		said = said[:1]
	}
	x.caller.Inform(http.StatusEarlyHints, said)
}
