package mom

import (
	"context"
	"iter"
	"net/http"
	"slices"
	"strings"

	"connectrpc.com/connect/v2"
	"golang.org/x/net/http2/hpack"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/bridge"
	"holdline/internal/contract"
	"holdline/internal/wire"
)

// incoming is a call that is to be stored, and the response to it. It came through connect, or is a plain call: see ServePlain.
type incoming struct {
	source
	protocol string              // as connect names it
	json     bool                // false: the binary format
	major    int32               // the version of HTTP
	header   []hpack.HeaderField // with names in lower case

	said, trailer headers
	answer        *bridge.Message // nil: an error is the answer
}

// source is where a call comes from.
type source interface {
	// receive reads the message into msg.
	receive(msg bridge.Incoming) error
	// inform sends a 103.
	inform(said headers)
}

// first is the first value of a header of the call, empty if there is none.
func (x *incoming) first(key string) string {
	name := wire.Lower(key)
	for _, f := range x.header {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// takeKept returns the headers of the call that its record keeps. It frees all headers, which cannot be read after that: the caller may be held for long.
func (x *incoming) takeKept() []*momv1.Metadata {
	kept := slices.DeleteFunc(x.header, func(f hpack.HeaderField) bool {
		_, ends := endHere[f.Name]
		return ends || strings.HasPrefix(f.Name, ownPrefix)
	})
	x.header = nil
	slices.SortStableFunc(kept, func(a, b hpack.HeaderField) int { return strings.Compare(a.Name, b.Name) })
	return metadata(byName(kept), contract.FromCaller)
}

// byName are headers that are sorted, with all values of each.
func byName(sorted []hpack.HeaderField) iter.Seq2[string, []string] {
	return func(yield func(key string, values []string) bool) {
		values := make([]string, len(sorted))
		for from, to := 0, 0; from < len(sorted); from = to {
			for ; to < len(sorted) && sorted[to].Name == sorted[from].Name; to++ {
				values[to] = sorted[to].Value
			}
			if !yield(wire.Canonical(sorted[from].Name), values[from:to:to]) {
				return
			}
		}
	}
}

// asks returns the headers of the call that are for Holdline.
func (x *incoming) asks() http.Header {
	header := http.Header{}
	for _, f := range x.header {
		if endHere[f.Name] {
			key := wire.Canonical(f.Name)
			header[key] = append(header[key], f.Value)
		}
	}
	return header
}

// endHere has the headers of calls that isKept does not keep, with names in lower case. The value is true for headers that callers send to Holdline.
var endHere = func() map[string]bool {
	ends := map[string]bool{}
	for key := range bridge.TransportHeaders() {
		ends[wire.Lower(key)] = false
	}
	for _, h := range contract.Headers {
		if h.From == contract.FromCaller {
			ends[wire.Lower(h.Name)] = true
		}
	}
	return ends
}()

// ownPrefix is the prefix of the names of all other headers that isKept does not keep.
var ownPrefix = strings.ToLower(contract.Prefix)

// codec is that of the call as records have it.
func (x *incoming) codec() string {
	if x.json {
		return codecJSON
	}
	return ""
}

// task is the id of the task that the headers name.
func (x *incoming) task() string { return x.said.Get(contract.HeaderTask) }

// headers are a few headers or trailers, named as in http.Header. Get searches them one by one, so there must be few, or nobody calls Get.
type headers []hpack.HeaderField

// Get returns the first value of a header, empty if there is none.
func (h *headers) Get(key string) string {
	for _, f := range *h {
		if f.Name == key {
			return f.Value
		}
	}
	return ""
}

// Set has a header have one value.
func (h *headers) Set(key, value string) {
	h.Delete(key)
	*h = append(*h, hpack.HeaderField{Name: key, Value: value})
}

// Delete removes a header.
func (h *headers) Delete(key string) {
	*h = slices.DeleteFunc(*h, func(f hpack.HeaderField) bool { return f.Name == key })
}

// add adds the headers of an answer. They replace headers of the same name.
func (h *headers) add(list []*momv1.Metadata) {
	if len(list) == 0 {
		return
	}
	said := *h
	more := make(headers, 0, len(said)+len(list))
	for _, f := range said {
		if !slices.ContainsFunc(list, func(m *momv1.Metadata) bool { return m.GetKey() == f.Name }) {
			more = append(more, f)
		}
	}
	for _, m := range list {
		for _, value := range valuesOf(m) {
			more = append(more, hpack.HeaderField{Name: m.GetKey(), Value: value})
		}
	}
	*h = more
}

// heads are the headers or the trailers of a response, of connect's or of ours.
type heads interface {
	Get(key string) string
	Set(key, value string)
}

var (
	_ heads = (*headers)(nil)
	_ heads = (*connect.Header)(nil)
)

// full is the source of a call that came through connect.
type full struct {
	stream   connect.ServerStream
	exchange *httpExchange
}

// newFull returns the call that connect passes to its handler.
func newFull(ctx context.Context, stream connect.ServerStream) *incoming {
	info, _ := connect.CallInfoForServerContext(ctx)
	exchange := exchangeOf(ctx)
	x := &incoming{source: full{stream, exchange}, protocol: info.Protocol, json: bridge.IsJSON(info), major: 1}
	if exchange != nil {
		x.major = exchange.major
	}
	for key, values := range info.RequestHeader().All() {
		for _, value := range values {
			x.header = append(x.header, hpack.HeaderField{Name: wire.Lower(key), Value: value})
		}
	}
	*info.RequestHeader() = connect.Header{} // its caller may be held for long
	return x
}

func (f full) receive(msg bridge.Incoming) error { return f.stream.Receive(msg) }

func (f full) inform(said headers) {
	if f.exchange == nil {
		return
	}
	header := f.exchange.Header()
	for _, h := range said {
		header.Set(h.Name, h.Value)
	}
	contract.Inform(f.exchange, http.StatusEarlyHints)
	for _, h := range said {
		header.Del(h.Name) // connect sets it with the answer
	}
}

// httpExchange has the parts of an HTTP exchange that connect does not show to its handlers.
type httpExchange struct {
	contract.StatusWriter
	major int32 // the version of HTTP
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *httpExchange {
	x, _ := ctx.Value(exchangeKey{}).(*httpExchange)
	return x
}

// withExchange gives handlers the exchange.
func withExchange(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &httpExchange{contract.StatusWriter{ResponseWriter: w}, int32(min(r.ProtoMajor, 2))}
		next.ServeHTTP(x, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
	})
}
