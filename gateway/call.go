package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdline/internal/contract"
	"holdline/internal/route"
	"holdline/internal/upstream"
	"holdline/internal/wire"
)

// maxReplay is the largest request body, in bytes, that is kept to be sent more
// than once. A larger one streams through, in one try.
const maxReplay = 1 << 20

// maxTrust is the largest announced body for which we allocate in advance: a caller
// could announce 1 MiB and send nothing.
const maxTrust = 32 << 10

// maxDiscard is how much of a refused body is read so that the refusal arrives.
const maxDiscard = 8 << 20

// bodyTimeout is how long a body of up to maxReplay may take to arrive. The call is sent only when the body is there,
// so no timeout of a service ends a caller who sends nothing.
const bodyTimeout = time.Minute

// call is one call on its way.
type call struct {
	in     *http.Request // as it came
	target *target
	method *route.Method // nil without a schema
	req    upstream.Request
	asks   contract.Asks // with its headers
	// deadline is the caller's, zero without one. The call is ended a little later.
	deadline time.Time
	// key is the Idempotency-Key of a call that may be stored, and prefer has its Prefer header; both are empty without the header.
	key    string
	prefer contract.Preference
	// offered is the first offer to a MOM, if servePlain has begun it, until it goes on.
	offered *begun
	// tries are the tries at the call's service; nil for a call that goes to the MOM at once.
	tries *tries
	// broken: the request's body ended in an error.
	broken atomic.Bool
	// ran: in some try the service may have executed the call.
	ran bool
	// confirmed: its service was asked whether it has another schema.
	confirmed bool
	// untold: the schema of its service is not known yet, but may still come.
	untold bool
	// held: its caller counts among those who are held at MOMs.
	held bool
	// ended is how the response has ended, once the whole response has come.
	ended end
	began time.Time

	cancelling sync.Mutex
	end        context.CancelCauseFunc // ends the tries or the offer under way
	cancelled  error                   // why; nil: it is not
}

// under returns the context for the next step of the call: its tries, or an offer. The context ends with ctx, by end, or when the call is cancelled.
func (c *call) under(ctx context.Context) (_ context.Context, end context.CancelCauseFunc) {
	ctx, end = context.WithCancelCause(ctx)
	c.cancelling.Lock()
	defer c.cancelling.Unlock()
	if c.end = end; c.cancelled != nil {
		end(c.cancelled)
	}
	return ctx, end
}

// cancel ends the call's tries or its offer, and every later one.
func (c *call) cancel(why error) {
	c.cancelling.Lock()
	defer c.cancelling.Unlock()
	if c.cancelled == nil {
		c.cancelled = why
	}
	if c.end != nil {
		c.end(why)
	}
}

// wantsTask tells whether the caller wants a task from the start.
func (c *call) wantsTask() bool { return c.key != "" || c.prefer.Async }

// late tells whether the call's deadline will be over after a wait, so that another try would come too late.
func (c *call) late(wait time.Duration) bool {
	return !c.deadline.IsZero() && time.Now().Add(wait).After(c.deadline)
}

// unary tells whether the call has one message each way. Only such messages may be kept and read.
func (c *call) unary() bool { return c.method != nil && c.method.Unary }

func (c *call) repeatable() bool { return c.method != nil && c.method.Repeatable }

// known tells whether the call is a stream that can be sent in another protocol.
func (c *call) known() bool { return c.method != nil && !c.method.Unary && c.target.stores }

// replayable tells whether the call is kept whole, so that it can be sent more than once.
func (c *call) replayable() bool { return c.unary() && c.req.Stream == nil }

// json tells whether the message is JSON. A reader of JSON loses the fields that its schema does not know; a reader of proto keeps them.
func (c *call) json() bool {
	if c.req.Method == http.MethodGet {
		return c.req.URL.Query().Get("encoding") == "json"
	}
	return strings.Contains(c.req.Header.Get("Content-Type"), "json")
}

// rewind prepares the call for another attempt. It returns false when the bytes that were sent are
// no longer kept.
func (c *call) rewind() bool { return c.req.Stream == nil || c.req.Stream.Rewind() }

// readBody reads a unary call's body, so that it can be sent again, and so that
// no slow caller occupies a service. Everything else streams.
func (c *call) readBody(w http.ResponseWriter) error {
	in := c.in
	if !c.unary() {
		if in.ContentLength == 0 {
			return nil
		}
		return c.stream(w, in.Body)
	}
	if in.ContentLength > maxReplay {
		return c.stream(w, in.Body)
	}
	// Our read of the body sends the 100 that a caller may wait for. The service gets the
	// whole body at once, and need not be asked.
	delete(c.req.Header, "Expect")
	var whole bool
	if c.req.Body, whole = wire.Whole(in.Body); whole { // as nearly always
		return nil
	}
	// The read deadline is set only when the time is over. To set it in advance would cost a fifth of a small
	// call, since HTTP/2 asks its serving goroutine each time.
	patience := bodyTimeout
	if !c.deadline.IsZero() {
		patience = min(patience, time.Until(c.deadline)+deadlineGrace)
	}
	late := time.AfterFunc(patience, func() { _ = http.NewResponseController(w).SetReadDeadline(time.Now()) })
	defer late.Stop()
	var err error
	c.req.Body, err = readMessage(io.LimitReader(in.Body, maxReplay+1), in.ContentLength, upstream.IsGRPC(in.Header))
	if len(c.req.Body) > maxReplay {
		return c.stream(w, io.MultiReader(bytes.NewReader(c.req.Body), in.Body))
	}
	return err
}

// readMessage reads a message. said is the length that the caller has announced, or -1. In gRPC, the first bytes of the message have the length, too.
func readMessage(from io.Reader, said int64, inGRPC bool) ([]byte, error) {
	expected := said
	switch {
	case said == 0:
		return []byte{}, nil // a read would send the 100 that a caller may have asked for
	case said < 0:
		expected = 511
	}
	all := make([]byte, 0, min(expected, maxTrust)+1) // a byte more, so that the end is found without more room
	for {
		n, err := from.Read(all[len(all):cap(all)])
		all = all[:len(all)+n]
		switch {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return all, err
		case len(all) < cap(all):
			continue
		case inGRPC && said < 0:
			said = envelopeHead + int64(binary.BigEndian.Uint32(all[1:]))
		}
		trusted := int64(maxReplay)
		if len(all) <= maxTrust {
			trusted = maxTrust
		}
		all = slices.Grow(all, max(len(all), int(min(said, trusted))+1-len(all)))
	}
}

// stream has the body sent to the service as it arrives.
func (c *call) stream(w http.ResponseWriter, body io.Reader) error {
	c.req.Stream = upstream.NewStream(&noting{body, &c.broken}, c.unary())
	if c.in.ProtoMajor == 1 {
		// Without this, net/http ends the request with the first byte of the response.
		return http.NewResponseController(w).EnableFullDuplex()
	}
	return nil
}

// discard reads the rest of a message that the caller is still sending: the caller would not read the
// refusal before it has sent everything.
func (c *call) discard() {
	if c.unary() && c.req.Stream != nil {
		_, _ = io.CopyN(io.Discard, c.in.Body, maxDiscard)
	}
}

// noting notes whether the body ends in an error.
type noting struct {
	io.Reader
	broken *atomic.Bool
}

// Read implements io.Reader.
func (n *noting) Read(p []byte) (int, error) {
	read, err := n.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		n.broken.Store(true)
	}
	return read, err
}
