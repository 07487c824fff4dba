package mom

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/bridge"
	"holdline/internal/coding"
	"holdline/internal/contract"
	"holdline/internal/logonce"
	"holdline/internal/outage"
	"holdline/internal/route"
	"holdline/internal/upstream"
)

// maxRequest is the largest message that is stored, in bytes.
const maxRequest = 1 << 20

// errKeyEnded is returned when a key named a task whose record has ended since: then the
// call is a new call. maxKeyEnds is how often in a row this may happen.
var errKeyEnded = errors.New("the task of the key has ended")

const maxKeyEnds = 3

// mountIntake serves every unary method of every service that has a route and a schema when the method is
// called. connect does all protocol work, in and out, except for plain calls, which most calls are: see ServePlain.
func (m *MOM) mountIntake(mux *http.ServeMux) {
	m.intakes = bridge.NewHandlers(func(method *route.Method) connect.ServerFunc {
		return func(ctx context.Context, _ connect.Spec, stream connect.ServerStream) error {
			return m.takeFull(ctx, method, stream)
		}
	},
		[]connect.ServerInterceptor{tellErrors(m.once)}, connecthttp.WithReadMaxBytes(maxRequest),
		connecthttp.WithCompressors(coding.Compressors()...), connecthttp.WithCodecs(bridge.NewBinaryCodec(m.cfg.Schemas), newJSONCodec(m.shelf)))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		method := m.takes(r.URL.Path)
		if method == nil {
			service, _, _ := route.SplitProcedure(r.URL.Path)
			_, _ = m.learner.Find(service, r.URL.Path)
			method = m.takes(r.URL.Path)
		}
		if method == nil {
			http.NotFound(w, r)
			return
		}
		m.intakes.Of(method).ServeHTTP(w, r)
	})
}

// takes returns the method of a path; nil if calls of this path are not stored.
func (m *MOM) takes(path string) *route.Method {
	method := m.cfg.Schemas.Method(path)
	if method == nil || !method.Unary || m.routes.of(method.Service()) == nil {
		return nil
	}
	return method
}

// takeFull takes a call that came through connect.
func (m *MOM) takeFull(ctx context.Context, method *route.Method, stream connect.ServerStream) error {
	x := newFull(ctx, stream)
	err := m.take(ctx, method, x)
	info, _ := connect.CallInfoForServerContext(ctx)
	for _, h := range x.said {
		info.ResponseHeader().Add(h.Name, h.Value)
	}
	for _, h := range x.trailer {
		info.ResponseTrailer().Add(h.Name, h.Value)
	}
	if err != nil {
		return err
	}
	return stream.Send(x.answer)
}

func (m *MOM) take(ctx context.Context, method *route.Method, x *incoming) error {
	sender := m.routes.of(method.Service())
	if sender == nil {
		return connect.NewError(connect.CodeUnimplemented, "its route is gone")
	}
	return m.newIntake(method, sender.route()).take(ctx, x)
}

func (m *MOM) newIntake(method *route.Method, r *route.Route) *intake {
	return &intake{
		store: m.store, route: r, method: method, answerTTL: m.cfg.AnswerTTL, ready: &m.ready,
		shelf: m.shelf, shards: m.shards, waiters: m.waiters, lapses: m.lapses, holds: m.holds,
		outages: m.outages, metrics: m.metrics, once: m.once,
	}
}

// intakeStore is what an intake needs of the store.
type intakeStore interface {
	// Add stores a task at the tail of its queue, and makes sure that some MOM leases it: see Attend. To add the same
	// ID again stores nothing and succeeds, in whichever shard the task was stored
	// before. *KeyReusedError, ErrQueueFull, ErrMoved.
	Add(ctx context.Context, task NewTask) (Added, error)
}

// intake takes the calls of one method.
type intake struct {
	store     intakeStore
	route     *route.Route
	method    *route.Method
	answerTTL time.Duration // unless the caller says otherwise
	ready     *atomic.Bool  // the store can be trusted
	shelf     *shelf
	shards    *shards
	waiters   *waiters
	lapses    *lapses
	holds     *holds
	outages   *outage.Log
	metrics   *metrics
	once      *logonce.Logger
}

// take stores the call, reports that to the gateway, and holds the caller until there is an answer or as long as the caller allows.
func (in *intake) take(ctx context.Context, x *incoming) error {
	began := time.Now()
	came := newReceived(x.codec(), in.method.Descriptor.Input(), in.shelf.ours.Of(in.method.Service()))
	if err := x.receive(came); err != nil {
		x.refuse(contract.RefusedCall)
		return in.notReceived(x, err) // an invalid message never reaches a queue
	}
	asked, err := in.termsOf(x, began)
	if err != nil {
		x.refuse(contract.RefusedCall)
		return err
	}
	task, err := in.task(ctx, x, asked, came)
	if err != nil {
		return err
	}
	if asked.key == "" {
		came.msg = nil // without a key, no other request is compared with it
	}
	if !in.ready.Load() {
		return in.notStored(x, task, "the store is not ready")
	}
	if err := in.place(ctx, x, &task); err != nil {
		return err
	}
	for range maxKeyEnds {
		if err = in.accept(ctx, x, asked, task, came); !errors.Is(err, errKeyEnded) {
			return err
		}
		x.said.Delete(contract.HeaderTask) // it names the task that is gone
	}
	return in.notStored(x, task, "the task of its key ends again and again")
}

// unheard is a waiter that is never woken.
var unheard = &waiter{}

// accept stores the task, or finds the one that its key names, and holds the caller.
func (in *intake) accept(ctx context.Context, x *incoming, asked terms, task NewTask, came *received) error {
	waiter := unheard // if nobody is held, we do not wait, and at most read the store
	if task.Waits {
		// Wait before storing: an answer may be quicker than we are.
		waiter = in.waiters.add(true)
		defer waiter.leave()
		waiter.waitFor(task.ID)
	}
	added, err := in.add(ctx, task, came)
	in.metrics.calls.WithLabelValues(in.route.Service, resultOf(added, err)).Inc()
	if err != nil {
		if ctx.Err() != nil && !task.Kept && !errors.Is(err, ErrNotSent) {
			in.lapses.add(task.ID, task.Offer) // the task may be stored
		}
		return in.addFailed(ctx, x, task, err)
	}
	part := in.shards.part(ShardOf(added.ID))
	part.reaper.within(asked.ttl)
	if !added.Attached && !added.Known {
		in.stored(task.Cause)
	}
	if task.Waits && added.ID != task.ID { // the key may name another task
		waiter.waitFor(added.ID)
	}
	x.said = slices.Grow(x.said, maxOfHandle)
	x.said.Set(contract.HeaderTask, added.ID.String())
	if applied := asked.prefer.Applied(); applied != "" {
		x.said.Set(contract.HeaderApplied, applied)
	}
	soon := task.Cause == "" && task.Offer <= 1 && part.demand.well.Load()
	return in.holds.hold(ctx, x, asked.hold(ctx), task, added, soon, waiter)
}

// stored counts a call that is stored for this cause. If the call's service has failed it, this is a
// sign of an outage.
func (in *intake) stored(cause string) {
	if cause != "" && !(upstream.Outcome{Cause: cause}).Ours() {
		in.outages.Down(in.route.Service, cause, nil)
	}
	in.outages.Count(in.route.Service, countStored)
}

// add stores a task. If it cannot know whether the store has the task, it tries again as long as there is
// time: the store stores the same id only once.
func (in *intake) add(ctx context.Context, task NewTask, came *received) (Added, error) {
	task.Until = time.Now().Add(storeTimeout)
	added, err := in.store.Add(ctx, task)
	if err == nil {
		return added, nil
	}
	ctx, cancel := context.WithDeadline(ctx, task.Until)
	defer cancel()
	var unsure error
	for ; ; added, err = in.store.Add(ctx, task) {
		if reused, ok := errors.AsType[*KeyReusedError](err); ok && reused.First.Fingerprint != task.Twin {
			same, why := in.sameAs(ctx, came, task.Request, reused)
			switch {
			case same:
				task.Twin = reused.First.Fingerprint
				continue
			case errors.Is(why, ErrUnavailable): // but this call was not stored
				err = errors.Join(why, ErrNotSent)
			case why != nil:
				err = errors.Join(err, why)
			}
		}
		switch {
		case err == nil, errors.Is(err, ErrKeyReused):
			return added, err
		case errors.Is(err, ErrMoved):
			if err := in.placeAgain(ctx, &task); err != nil {
				return added, cmp.Or(unsure, err)
			}
		case unsure != nil: // an earlier try may have stored the task, whatever this one returned
		case errors.Is(err, ErrNotSent), !errors.Is(err, ErrUnavailable):
			return added, err
		default:
			unsure = err
		}
		sleep(ctx, storePause)
		if ctx.Err() != nil {
			return Added{}, cmp.Or(unsure, ErrMoved)
		}
	}
}

// spoken are the versions of HTTP that a gateway names.
var spoken = map[string]int32{"1": 1, "2": 2}

// task builds the record of a call.
func (in *intake) task(ctx context.Context, x *incoming, asked terms, came *received) (NewTask, error) {
	caller := cmp.Or(x.first(contract.HeaderCaller), contract.Anonymous)
	if !utf8.ValidString(caller) {
		return NewTask{}, contract.Errorf(momv1.Reason_REASON_HEADER_INVALID, "%s: want UTF-8", contract.HeaderCaller)
	}
	id, err := in.minted(x)
	if err != nil {
		return NewTask{}, err
	}
	if major, ok := spoken[x.first(contract.HeaderHTTP)]; ok {
		x.major = major
	}
	call := &momv1.Call{
		Procedure: in.method.Procedure,
		Caller:    caller,
		Protocol:  x.protocol,
		HttpMajor: x.major,
		Message:   came.raw,
		Codec:     came.codec,
	}
	offer, _ := strconv.ParseInt(x.first(contract.HeaderOffer), 10, 64) // 0: the gateway sent no such header
	waits := asked.hold(ctx) > 0
	task := NewTask{
		ID:         id,
		Offer:      offer,
		Call:       call,
		Repeatable: in.method.Repeatable,
		Cause:      strings.ToValidUTF8(x.first(contract.HeaderCause), "?"),
		TTL:        asked.ttl,
		AnswerTTL:  asked.answerTTL,
		Waits:      waits,
		Kept:       asked.key != "" || asked.prefer.Async || !waits || x.first(contract.HeaderKept) != "",
	}
	call.Header = x.takeKept()
	call.RecordVersion = versionOf(came.json(), nil, call.GetHeader())
	if asked.key != "" {
		call.IdempotencyKey = asked.key
		task.KeyHash = digest([]byte(caller), []byte(in.method.Procedure), []byte(asked.key))
		schema := in.shelf.name(in.route.Service)
		if now := in.shelf.ours.Method(in.method.Procedure); now == nil || now.Descriptor != in.method.Descriptor {
			schema = "" // the schema has changed since the message was read
		}
		if task.Request, err = came.request(schema); err != nil {
			return NewTask{}, err
		}
	}
	return task, nil
}

func digest(parts ...[]byte) string {
	hash := sha256.New()
	var room [sha256.Size]byte
	for _, part := range parts {
		_, _ = hash.Write(append(strconv.AppendInt(room[:0], int64(len(part)), 10), ':')) // so that two different lists of parts have different hashes
		_, _ = hash.Write(part)
	}
	return hex.EncodeToString(hash.Sum(room[:0])[:16])
}

func resultOf(added Added, err error) string {
	switch {
	case errors.Is(err, ErrKeyReused), errors.Is(err, ErrQueueFull):
		return callRefused
	case err != nil:
		return callFailed
	case added.Attached:
		return callAttached
	}
	return callStored
}
