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

// bodyTimeout is how long a body of that size may take to arrive. The call is not sent before that,
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
	// key is the Idempotency-Key of a call that may be stored, and prefer what its Prefer says; empty without one.
	key    string
	prefer contract.Preference
	// offered is the first offer to a MOM, if servePlain has begun it, until it goes on.
	offered *begun
	// tries are those at its service; nil for a call that goes to the MOM at once.
	tries *tries
	// broken: the request's body ended in an error.
	broken atomic.Bool
	// ran: in some try the service may have executed the call.
	ran bool
	// confirmed: its service was asked whether it has another schema.
	confirmed bool
	// untold: nobody has told the schema of its service yet.
	untold bool
	// held: its caller counts among those who are held at MOMs.
	held bool
	// ended is how its response has ended, once that has come whole.
	ended end
	began time.Time

	cancelling sync.Mutex
	end        context.CancelCauseFunc // of what is under way
	cancelled  error                   // why; nil: it is not
}

// under returns a context for what is under way next of the call: its tries, or an offer. It ends with ctx, by end, or when the call is cancelled.
func (c *call) under(ctx context.Context) (_ context.Context, end context.CancelCauseFunc) {
	ctx, end = context.WithCancelCause(ctx)
	c.cancelling.Lock()
	defer c.cancelling.Unlock()
	if c.end = end; c.cancelled != nil {
		end(c.cancelled)
	}
	return ctx, end
}

// cancel ends what is under way of the call, and all that follows.
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

// late calls will be past their deadline after a wait, too late for another try.
func (c *call) late(wait time.Duration) bool {
	return !c.deadline.IsZero() && time.Now().Add(wait).After(c.deadline)
}

// unary calls have one message each way, which may be kept and looked at.
func (c *call) unary() bool { return c.method != nil && c.method.Unary }

func (c *call) repeatable() bool { return c.method != nil && c.method.Repeatable }

// known calls are streams that can be sent in another protocol.
func (c *call) known() bool { return c.method != nil && !c.method.Unary && c.target.stores }

// replayable calls are kept whole, and can be sent more than once.
func (c *call) replayable() bool { return c.unary() && c.req.Stream == nil }

// json tells whether the message is JSON. Who reads JSON loses what its schema does not know; proto keeps it.
func (c *call) json() bool {
	if c.req.Method == http.MethodGet {
		return c.req.URL.Query().Get("encoding") == "json"
	}
	return strings.Contains(c.req.Header.Get("Content-Type"), "json")
}

// rewind prepares the call for another attempt; false when what was sent of it is
// no longer at hand.
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

// readMessage reads a message of which its caller has said how long it is; -1: that was not said. In gRPC, its first bytes say that, too.
func readMessage(from io.Reader, said int64, inGRPC bool) ([]byte, error) {
	expected := said
	switch {
	case said == 0:
		return []byte{}, nil // to read it would say 100 to who asks for that
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

// stream makes the body one that is sent as it comes.
func (c *call) stream(w http.ResponseWriter, body io.Reader) error {
	c.req.Stream = upstream.NewStream(&noting{body, &c.broken}, c.unary())
	if c.in.ProtoMajor == 1 {
		// Without this, net/http ends the request with the first byte of the response.
		return http.NewResponseController(w).EnableFullDuplex()
	}
	return nil
}

// discard reads what is left of a message that is still being sent: its caller would not hear of a
// refusal before that.
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
