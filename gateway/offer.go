package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/upstream"
	"holdline/internal/wire"
)

// errDraining ends a hold whose task is kept.
var errDraining = errors.New("the gateway is draining")

// gatewayDrains is the cause of an offer that ended because the gateway drains.
const gatewayDrains = "drained"

// offering is one offer under way. Once the MOM has reported that it has the call, a drain of the gateway ends the hold.
type offering struct {
	*handOff
	req   upstream.Request
	over  atomic.Bool // answered, or given up: whichever comes first
	end   context.CancelCauseFunc
	clock *time.Timer // ends it

	mu      sync.Mutex
	taken   receipt
	stop    func() bool // waiting for a drain
	stopEnd func() bool // waiting for the end of the gateway
	closed  bool        // the transport may hand a receipt over later
}

// offer sends the call to one MOM. Within the given time the MOM has to report that
// it has the call, by a 103 or by its answer. After the 103 the MOM may hold the caller, until the
// caller's time is over or the gateway drains. The receipt is that of the 103; it is the zero value
// without one. The response is nil unless the MOM answered in time.
func (h *handOff) offer(ctx context.Context, mom *upstream.Endpoint, within time.Duration) (*upstream.Response, upstream.Outcome, receipt) {
	holding, end := h.call.under(ctx)
	o := &offering{handOff: h, end: end}
	o.clock = time.AfterFunc(min(within, h.left()), o.tooLate)
	o.stopEnd = context.AfterFunc(h.proxy.ending, o.endSoon)
	o.request(mom)
	o.req.Informed = func(code int, header http.Header) error {
		if id := header.Get(contract.HeaderTask); code == http.StatusEarlyHints && id != "" {
			o.take(holding, receipt{id, header.Get(contract.HeaderExpires)})
		}
		return nil
	}
	res, outcome, err := mom.Try(holding, &o.req)
	taken := o.close()
	if res != nil && !o.over.CompareAndSwap(false, true) {
		// The response came too late: there may be nothing but its head.
		res.Drop()
		<-holding.Done()
		res, outcome = nil, upstream.Outcome{Kind: upstream.Broken, Cause: upstream.TryTimeout}
	}
	if res != nil {
		switch {
		case refusesSecret(res):
			warnSecret(h.proxy.once, mom)
			outcome.Cause = secretRefused
		case outcome.Cause != "", res.Header.Get(contract.HeaderTask) != "": // the response is for the caller
		case res.Header.Get(contract.HeaderUnsure) != "":
			outcome.Cause = "store-silent"
		default:
			outcome.Cause = "http-" + strconv.Itoa(res.StatusCode)
		}
		return res, outcome, taken
	}
	if errors.Is(context.Cause(holding), errDraining) {
		outcome = upstream.Outcome{Kind: upstream.CallerLeft, Cause: gatewayDrains}
	}
	end(context.Canceled)
	h.proxy.log.Debug("hand-off failed", "task", h.id.String(), "endpoint", mom, "cause", outcome.Cause, "error", err)
	return nil, outcome, taken
}

// letGo ends the offer, unless it was answered.
func (o *offering) letGo(why error) {
	if o.over.CompareAndSwap(false, true) {
		o.end(why)
	}
}

func (o *offering) tooLate() { o.letGo(upstream.ErrTryTimeout) }

// endSoon shortens the offer when the gateway ends.
func (o *offering) endSoon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed && o.clock.Stop() {
		o.clock.Reset(o.left())
	}
}

// left is how long the hand-off may still last: until its caller must get an answer, or the gateway ends.
func (h *handOff) left() time.Duration {
	left := time.Until(h.until)
	if by := h.proxy.endBy.Load(); by != nil {
		left = min(left, time.Until(*by))
	}
	return left
}

// take takes the receipt, if it is in time. Then the MOM may hold.
func (o *offering) take(holding context.Context, said receipt) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.taken.id != "" || !o.clock.Stop() {
		return
	}
	o.clock.Reset(o.left())
	o.taken, o.stop = said, context.AfterFunc(o.proxy.draining, func() { o.leaveKept(holding, said.id) })
}

// close ends the wait. It returns the receipt, if there is one.
func (o *offering) close() receipt {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.clock.Stop()
	o.stopEnd()
	if o.stop != nil {
		o.stop()
	}
	return o.taken
}

// receipt is what a MOM sends as soon as it has a call: the task's id, and when the task expires. The zero value means that there is no receipt.
type receipt struct{ id, expires string }

// handle is the task's handle.
func (r receipt) handle() *momv1.TaskHandle {
	handle := &momv1.TaskHandle{Id: r.id, State: momv1.TaskState_TASK_STATE_QUEUED}
	if at, err := time.Parse(time.RFC3339Nano, r.expires); err == nil {
		handle.ExpireTime = timestamppb.New(at)
	}
	return handle
}

// line is a header of an offer. It replaces the caller's header of the same name. If the value is empty, the offer does not have the header.
type line struct{ key, value string }

// maxLines is the maximum number of lines of an offer.
const maxLines = 10

// says appends the lines about the call that each offer of a task has.
func (p *proxy) says(lines []line, id contract.TaskID, major int, json bool) []line {
	lines = append(lines, line{contract.HeaderTask, id.String()}, line{contract.HeaderCaller, contract.Anonymous},
		line{contract.HeaderHTTP, strconv.Itoa(min(major, 2))},
		// There is only one version of the protocol. A service may ignore this header, but a MOM would check it.
		line{"Connect-Protocol-Version", ""})
	if json {
		lines = append(lines, line{contract.HeaderSchema, p.schemas.Digest(id.Service)})
	}
	return lines
}

// says appends the lines that are the same in each offer of the hand-off.
func (h *handOff) says(lines []line) []line {
	c := h.call
	lines = h.proxy.says(lines, h.id, c.req.HTTPMajor, c.json())
	if c.tries != nil {
		lines = append(lines, line{contract.HeaderCause, c.tries.last.Cause})
	}
	if h.prefer != c.prefer {
		lines = append(lines, line{contract.HeaderPrefer, h.prefer.Applied()})
	}
	return lines
}

// saysNow appends the lines that differ from one offer to the next: above all the time that is left to the caller.
func (p *proxy) saysNow(lines []line, offers int64, deadline time.Time, grpc bool) []line {
	lines = append(lines, line{contract.HeaderSecret, p.secret.Line()}, line{contract.HeaderOffer, strconv.FormatInt(offers, 10)})
	if !deadline.IsZero() {
		key, value := contract.TimeoutHeader(grpc, time.Until(deadline))
		lines = append(lines, line{key, value})
	}
	return lines
}

// saysNow appends the lines of the next offer that differ from those of other offers.
func (h *handOff) saysNow(lines []line) []line {
	lines = h.proxy.saysNow(lines, h.offers, h.call.deadline, upstream.IsGRPC(h.call.req.Header))
	if prefer := h.prefer; h.offers > 1 && prefer.Hold() > 0 {
		// In whole seconds, so that the MOM ends the hold before we have to.
		prefer.Wait, prefer.HasWait = max(time.Until(h.until).Truncate(time.Second), 0), true
		lines = append(lines, line{contract.HeaderPrefer, prefer.Applied()})
	}
	return lines
}

// header is the caller's header with these lines in it.
func (h *handOff) header(lines []line) http.Header {
	header := h.call.req.Header.Clone() // the transport may still read the header of the last offer
	for _, l := range lines {
		if header.Set(l.key, l.value); l.value == "" {
			header.Del(l.key)
		}
	}
	return header
}

// request makes the request of the next offer, and begins it as a plain call where it can, unless servePlain has begun it. It goes over HTTP/2, so that all
// offers and holds share a few connections. If the headers are large, its version is that of the caller, since HTTP/2 counts more bytes for each header than HTTP/1.1 does, and a MOM
// takes only as many as gateways take.
func (o *offering) request(mom *upstream.Endpoint) {
	o.offers++
	o.req = o.call.req
	o.req.Timeout, o.req.OneWrite = 0, true // the route's timeout is for its service
	if first := o.call.offered; first != nil {
		o.req.Begun, o.call.offered = first.Begun, nil
		return
	}
	var room [maxLines]line
	lines := o.says(room[:0])
	if o.req.Begun = o.begin(mom, lines); o.req.Begun != nil {
		return
	}
	o.req.Header = o.header(lines)
	if upstream.HeaderBytes(o.req.Header) <= upstream.LargeHeaders {
		o.req.HTTPMajor = 2
	}
	o.req.Header = o.header(o.saysNow(lines))
}

// begin begins the offer as a plain call, which costs less. It does so if the message is small and there is a connection to the MOM. Try reads
// the response. A hold can last long, so the offer keeps no header of its own.
func (o *offering) begin(mom *upstream.Endpoint, lines []line) *upstream.Begun {
	req := &o.req
	if req.Method != http.MethodPost || req.Stream != nil || len(req.Body) > wire.MaxPlain || req.Host == "" || req.URL.RawQuery != "" || !wire.IsPlain(req.URL.Path) {
		return nil
	}
	plain := newPlainOffer()
	defer plain.free()
	lines = o.saysNow(lines)
	fields := plain.room[:0]
	for key, values := range req.Header {
		switch {
		case key == "Content-Length", key == "Host", key == "Te" && !slices.Equal(values, []string{"trailers"}),
			slices.ContainsFunc(lines, func(l line) bool { return l.key == key }):
		default:
			fields = wire.AppendFields(fields, key, values...)
		}
	}
	mediaType, _ := req.Written()
	plain.req = wire.Request{Authority: req.Host, Path: req.URL.Path, Header: fields, Body: req.Body}
	return plain.begin(mom, lines, mediaType, o.call.began)
}

// leaveKept ends a hold because the gateway drains, once a MOM keeps the task. If no MOM can keep
// the task, the hold goes on: the caller must not get the handle of a task that is cancelled when
// the caller leaves.
func (o *offering) leaveKept(holding context.Context, id string) {
	if !o.kept {
		kept := make(chan bool, 1)
		o.proxy.words.keep.add(id, kept)
		select {
		case ok := <-kept:
			if !ok {
				return
			}
		case <-holding.Done():
			return
		}
	}
	o.letGo(errDraining)
}
