package upstream

import (
	"errors"
	"io"
	"net/http"
	"slices"

	"holdline/internal/wire"
)

// Response is a response whose body may have been read in part.
type Response struct {
	*http.Response
	// GRPCStatus is the grpc-status that came before any message, wherever the protocol
	// puts it. It is set only if the response was looked at (Request.Look).
	GRPCStatus string

	body     io.ReadCloser
	endpoint *Endpoint // until it is closed
	seat     *seat     // on an HTTP/2 connection
	head     []byte    // read, but not yet given out by Read
	err      error     // what ended the body, once head has been given out
}

// NewResponse returns a response that did not come from an endpoint.
func NewResponse(res *http.Response) *Response { return &Response{Response: res, body: res.Body} }

// HTTP returns the response as net/http knows it, with its whole body.
func (res *Response) HTTP() *http.Response {
	res.Body = res
	return res.Response
}

// Drop ends a response that nobody wants; res may be nil.
func (res *Response) Drop() {
	if res != nil {
		_ = res.Close()
	}
}

// Close ends the response, which then does not count as load of its endpoint any more.
func (res *Response) Close() error {
	err := res.body.Close()
	if res.endpoint != nil {
		res.endpoint.end(res.seat)
		res.endpoint = nil
	}
	return err
}

// readSize fits what a unary call usually answers.
const readSize = 512

// read appends one read of the body to head.
func (res *Response) read() {
	if rest, ok := wire.Whole(res.body); ok { // as it lies
		if res.err = io.EOF; len(res.head) > 0 {
			rest = append(res.head, rest...)
		}
		res.head = rest
		return
	}
	res.head = slices.Grow(res.head, readSize)
	n, err := res.body.Read(res.head[len(res.head):cap(res.head)])
	res.head = res.head[:len(res.head)+n]
	res.err = err
}

// begins waits for the first bytes of the body, or for its end. It returns false if the body broke off before that.
func (res *Response) begins() bool {
	for res.err == nil && len(res.head) == 0 {
		res.read()
	}
	return len(res.head) > 0 || errors.Is(res.err, io.EOF)
}

// Ahead reads the body until it ends, or is larger than limit bytes. It returns the bytes that it has read, and the error that ended the body. Read still returns
// the body from its first byte.
func (res *Response) Ahead(limit int) ([]byte, error) {
	for res.err == nil && len(res.head) <= limit {
		res.read()
	}
	return res.head, res.err
}

// Head takes the bytes of the body that were read already, and the error that ended the body, if it has ended. Read returns the rest.
func (res *Response) Head() ([]byte, error) {
	head := res.head
	res.head = nil
	return head, res.err
}

// Read reads the body, from its first byte.
func (res *Response) Read(p []byte) (int, error) {
	if len(res.head) > 0 {
		n := copy(p, res.head)
		res.head = res.head[n:]
		if len(res.head) == 0 {
			return n, res.err
		}
		return n, nil
	}
	if res.err != nil {
		return 0, res.err
	}
	return res.body.Read(p)
}
