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

	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/types/known/timestamppb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/upstream"
	"holdline/internal/wire"
)

// errDraining ends a hold whose task is kept.
var errDraining = errors.New("the gateway is draining")

// gatewayDrains is the cause of an offer that ended since the gateway drains.
const gatewayDrains = "drained"

// offer sends the call to one MOM. Within the given time the MOM has to say that
// it has the call, with a 103 or with its answer; after that, it may hold, until the
// caller's time is over or the gateway drains. The handle is there once the MOM said that
// it has the call; the response is nil unless the MOM answered in time.
func (h *handOff) offer(ctx context.Context, mom *upstream.Endpoint, within time.Duration) (*upstream.Response, upstream.Outcome, *momv1.TaskHandle) {
	req := h.request()
	holding, release := context.WithCancelCause(ctx) // ends with ctx at the latest
	var over atomic.Bool                             // answered, or given up: whichever comes first
	letGo := func(why error) {
		if over.CompareAndSwap(false, true) {
			release(why)
		}
	}
	tooLate := func() { letGo(upstream.ErrTryTimeout) }
	clock, limit := time.AfterFunc(within, tooLate), time.AfterFunc(time.Until(h.until), tooLate)
	var taken receipt
	req.Informed = func(code int, header http.Header) error {
		if id := header.Get(contract.HeaderTask); code == http.StatusEarlyHints && id != "" && clock.Stop() {
			taken.write(id, header.Get(contract.HeaderExpires), func() (stop func() bool) {
				return context.AfterFunc(h.proxy.draining, func() { h.leaveKept(holding, id, letGo) })
			})
		}
		return nil
	}
	h.begin(mom, &req)
	res, outcome, err := mom.Try(holding, &req)
	handle := taken.close()
	clock.Stop()
	limit.Stop()
	if res != nil && !over.CompareAndSwap(false, true) {
		// It came too late: there may be nothing but its head.
		res.Drop()
		<-holding.Done()
		res, outcome = nil, upstream.Outcome{Kind: upstream.Broken, Cause: upstream.TryTimeout}
	}
	if res != nil {
		switch {
		case refusesSecret(res):
			warnSecret(h.proxy.once, mom)
			outcome.Cause = secretRefused
		case outcome.Cause != "":
		case res.Header.Get(contract.HeaderUnsure) != "":
			outcome.Cause = "store-silent"
		default:
			outcome.Cause = "http-" + strconv.Itoa(res.StatusCode)
		}
		return res, outcome, handle
	}
	if errors.Is(context.Cause(holding), errDraining) {
		outcome = upstream.Outcome{Kind: upstream.CallerLeft, Cause: gatewayDrains}
	}
	release(nil)
	h.proxy.log.Debug("hand-off failed", "task", h.id.String(), "endpoint", mom, "cause", outcome.Cause, "error", err)
	return nil, outcome, handle
}

// receipt is what a MOM says as soon as it has a call. From then on, a drain of the gateway ends
// the hold. The transport may hand the receipt over when the offer is given up already.
type receipt struct {
	mu     sync.Mutex
	handle *momv1.TaskHandle
	stop   func() bool
	closed bool
}

func (r *receipt) write(id, expires string, wait func() (stop func() bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.handle, r.stop = &momv1.TaskHandle{Id: id, State: momv1.TaskState_TASK_STATE_QUEUED}, wait()
	if at, err := time.Parse(time.RFC3339Nano, expires); err == nil {
		r.handle.ExpireTime = timestamppb.New(at)
	}
}

// close ends the wait. It returns the task's handle; nil without a receipt.
func (r *receipt) close() *momv1.TaskHandle {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.stop != nil {
		r.stop()
	}
	return r.handle
}

// request is the next offer: the call, and what is left of its caller's time.
func (h *handOff) request() upstream.Request {
	h.offers++
	req := h.call.req
	req.HTTPMajor = h.httpMajor
	req.Timeout, req.OneWrite = 0, true // the route's timeout is for its service
	req.Header = h.header.Clone()       // the transport may still read that of the last offer
	h.proxy.secret.Show(req.Header)
	req.Header.Set(contract.HeaderOffer, strconv.FormatInt(h.offers, 10))
	if prefer := contract.Prefer(req.Header); h.offers > 1 && prefer.Hold() > 0 {
		// In whole seconds, so that the MOM ends the hold before we have to.
		prefer.Wait, prefer.HasWait = max(time.Until(h.until).Truncate(time.Second), 0), true
		req.Header.Set(contract.HeaderPrefer, prefer.Applied())
	}
	if !h.call.deadline.IsZero() {
		contract.SetTimeout(req.Header, upstream.IsGRPC(req.Header), time.Until(h.call.deadline))
	}
	return req
}

// begin begins an offer as a plain call is begun, which costs less, where its message is small and there is a connection to the MOM. Whatever comes of it is read by
// Try. A hold can last, so it keeps no header of its own.
func (h *handOff) begin(mom *upstream.Endpoint, req *upstream.Request) {
	if req.HTTPMajor != 2 || req.Method != http.MethodPost || req.Stream != nil || len(req.Body) > wire.MaxPlain || req.Host == "" || req.URL.RawQuery != "" || !wire.IsPlain(req.URL.Path) {
		return
	}
	fields := make([]hpack.HeaderField, 0, len(req.Header)+4)
	for key, values := range req.Header {
		switch {
		case key == "Content-Length", key == "Host", key == "Te" && !slices.Equal(values, []string{"trailers"}):
		default:
			fields = wire.AppendFields(fields, key, values)
		}
	}
	fields = append(fields, hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(len(req.Body))})
	mediaType, _ := req.Written()
	plain := &wire.Request{Major: 2, Authority: req.Host, Path: req.URL.Path, Header: fields, Body: req.Body}
	if req.Begun = mom.Begin(plain, mediaType, h.call.began); req.Begun != nil {
		req.Header = h.header
	}
}

// leaveKept ends a hold because the gateway drains, once the task is kept. A caller whose task
// cannot be kept is held on: it must not get the handle of a task that ends when
// the caller leaves.
func (h *handOff) leaveKept(holding context.Context, id string, letGo func(error)) {
	if !h.kept {
		kept := make(chan bool, 1)
		h.proxy.words.keep.add(id, kept)
		select {
		case ok := <-kept:
			if !ok {
				return
			}
		case <-holding.Done():
			return
		}
	}
	letGo(errDraining)
}
