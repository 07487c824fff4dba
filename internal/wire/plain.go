package wire

import (
	"context"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http2/hpack"
)

// MaxPlain is the largest body of a plain call, in bytes, each way.
const MaxPlain = 16 << 10

// Request is that of a plain call: a POST with a small body. The names of its fields are in lower case. Most calls are like this, and
// making the types of net/http for them costs more than all that is done with them.
type Request struct {
	Major             int // of the version of HTTP
	Scheme, Authority string
	Path              string // as IsPlain wants it
	Header            []hpack.HeaderField
	Body              []byte // once Caller.Body has returned it
	Caller            Caller
}

// Caller is who has sent a request.
type Caller interface {
	// Body waits until the body has come whole, or for that long. It returns false if it has not come, or is no small one.
	Body(most time.Duration) ([]byte, bool)
	// News is signalled when the caller has left, and sometimes without a reason.
	News() <-chan struct{}
}

// Holding is a Caller who may be held for long: callers over HTTP/2 are. It can be told something before its response.
type Holding interface {
	Caller
	// Context returns a context that ends when the caller has left, or has its response, or after that long, where 0 is without end. It is asked for once, by
	// who answers the call: the request keeps its headers no longer.
	Context(most time.Duration) context.Context
	// Inform sends a response of 1xx.
	Inform(status int, header []hpack.HeaderField)
}

// Response is that of a plain call: all of it has come, and its body is small.
type Response struct {
	Status           int
	Header, Trailers []hpack.HeaderField
	Body             []byte
	Until            time.Time // how long the caller may take to read it; zero: without end
}

// IsPlain tells whether a path has no escapes and no query.
func IsPlain(path string) bool {
	for i := range len(path) {
		switch b := path[i]; {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '.', b == '_':
		case b == '/' && i != 1: // else a host would follow
		default:
			return false
		}
	}
	return path != "" && path[0] == '/'
}

// PlainHandler is an http.Handler that may answer plain calls in fewer steps. ServePlain returns the response to a call whose body it has read; or, for a call that it
// does not answer so, the handler that is to serve it; or nil and nil, and ServeHTTP is to.
type PlainHandler interface {
	http.Handler
	ServePlain(*Request) (*Response, http.Handler)
}

// PlainClient is an http.RoundTripper that may send plain calls in fewer steps.
type PlainClient interface {
	http.RoundTripper
	// Begin sends a request over a connection that has brought responses. It returns nil if there is none, or no room on it, or if the
	// server may not take headers of that size. Then nothing was sent.
	Begin(*Request) Exchange
}

// Exchange is a request that was sent, and its response. End or Await has to be called at last, and only one of them.
type Exchange interface {
	// Whole waits for the response: until it has come whole; or is not plain, or has failed; or something is heard on news; or for
	// that long, where 0 is without end. It is nil where it is not whole.
	Whole(news <-chan struct{}, most time.Duration) *Response
	// End is for an exchange whose response Whole has returned. Its caller keeps the response.
	End()
	// Await returns the response as RoundTrip does, with an error when ctx ends. informed hears the responses of 1xx before it.
	Await(ctx context.Context, informed func(code int, header http.Header) error) (*http.Response, error)
	// HeadCame tells whether there are headers of the response, not counting 1xx.
	HeadCame() bool
	// Conn is the connection.
	Conn() net.Conn
}
