package mom

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/route"
)

// Limits of what is stored, in bytes.
const (
	maxRequest = 1 << 20
	maxAnswer  = 4 << 20
)

// errKeyEnded says that the record of the task which a key named has ended since: the
// call is a new one. maxKeyEnds is how often in a row that may be so.
var errKeyEnded = errors.New("the task of the key has ended")

const maxKeyEnds = 3

// mountIntake registers a handler for every unary method of every routed service
// whose schema is known. connect does all protocol work, in and out.
func (m *MOM) mountIntake(calls *connect.Server) {
	for _, name := range m.cfg.Routes.Services() {
		sd := m.cfg.Schemas.Service(name)
		if sd == nil {
			m.cfg.Logger.Warn("no schema: calls of this service are not stored", "service", name)
			continue
		}
		for i := range sd.Methods().Len() {
			method := m.cfg.Schemas.Method(fmt.Sprintf("/%s/%s", name, sd.Methods().Get(i).Name()))
			if !method.Unary {
				continue
			}
			in := &intake{MOM: m, route: m.cfg.Routes[name], method: method}
			calls.Register(connect.Method{Spec: specOf(method), Handler: in.take})
		}
	}
}

// specOf describes a unary method to connect.
func specOf(method *route.Method) connect.Spec {
	options, _ := method.Descriptor.Options().(*descriptorpb.MethodOptions)
	return connect.Spec{
		Procedure:        method.Procedure,
		Schema:           method.Descriptor,
		IdempotencyLevel: connect.IdempotencyLevel(options.GetIdempotencyLevel()),
	}
}

// intake takes the calls of one method.
type intake struct {
	*MOM
	route  *route.Route
	method *route.Method
}

// codecOf is the codec of a call as records have it. A charset goes with the name of connect's.
func codecOf(info *connect.CallInfo) string {
	if strings.HasPrefix(info.Codec, codecJSON) {
		return codecJSON
	}
	return ""
}

// take is a connect.ServerFunc: it stores the call, says so, and holds the caller
// until there is an answer or as long as the caller allows.
func (in *intake) take(ctx context.Context, _ connect.Spec, stream connect.ServerStream) error {
	began := time.Now()
	info, _ := connect.CallInfoForServerContext(ctx)
	came := newReceived(codecOf(info), in.method.Descriptor.Input(), in.cfg.Schemas)
	if err := stream.Receive(came); err != nil {
		refuse(info, contract.RefusedCall)
		return in.notReceived(info, err) // an invalid message never reaches a queue
	}
	terms, err := in.termsOf(info, began)
	if err != nil {
		refuse(info, contract.RefusedCall)
		return err
	}
	task, err := in.task(ctx, info, terms, came)
	if err != nil {
		return err
	}
	if !in.ready.Load() {
		return in.notStored(info, task.Cause, "the store is not ready")
	}
	if err := in.place(ctx, info, &task); err != nil {
		return err
	}
	for range maxKeyEnds {
		if err = in.accept(ctx, caller{stream, info, came.codec}, terms, task, came); !errors.Is(err, errKeyEnded) {
			return err
		}
		info.ResponseHeader().Delete(contract.HeaderTask) // of the task that is gone
	}
	return in.notStored(info, task.Cause, "the task of its key ends again and again")
}

// accept stores the task, or finds the one that its key names, and holds the caller.
func (in *intake) accept(ctx context.Context, to caller, terms terms, task NewTask, came *received) error {
	// Wait before storing: an answer may be quicker than we are.
	waiter := in.waiters.add(true)
	defer waiter.leave()
	waiter.waitFor(task.ID)
	added, err := in.add(ctx, task, came)
	in.metrics.calls.WithLabelValues(in.route.Service, resultOf(added, err)).Inc()
	if err != nil {
		if ctx.Err() != nil && !task.Kept && !errors.Is(err, ErrNotSent) {
			in.lapses.add(task.ID, task.Offer) // it may be stored
		}
		return in.addFailed(ctx, to.info, task, err)
	}
	in.stored(task, added)
	in.shards.part(ShardOf(added.ID)).reaper.within(terms.ttl)
	id := added.ID
	waiter.waitFor(id) // the key may name another task
	header := to.info.ResponseHeader()
	header.Set(contract.HeaderTask, id.String())
	if applied := terms.prefer.Applied(); applied != "" {
		header.Set(contract.HeaderApplied, applied)
	}
	wait := terms.hold(ctx)
	defer in.held.Add(-1)
	if in.held.Add(1) > int64(in.cfg.MaxHeld) && wait > 0 {
		in.once.Warn("held", "limit of held callers reached; one more gets its handle at once", "limit", in.cfg.MaxHeld)
		wait = 0
	}
	if wait == 0 && !added.Attached && !added.Known {
		return writeHandle(to.info, &momv1.TaskHandle{
			Id: id.String(), State: momv1.TaskState_TASK_STATE_QUEUED, ExpireTime: timestamppb.New(added.ExpireTime),
		})
	}
	held := &in.traffic[in.route.Service].held
	defer held.Add(-1)
	held.Add(1)
	return in.hold(ctx, to, wait, task, added, waiter.changed)
}

// stored takes note of a call that is stored. One that its service has failed is a
// sign of an outage.
func (in *intake) stored(task NewTask, added Added) {
	if added.Attached || added.Known {
		return
	}
	in.shards.part(ShardOf(task.ID)).demand.add()
	if task.Cause != "" {
		in.outages.Down(in.route.Service, task.Cause, nil)
	}
	in.outages.Count(in.route.Service, countStored)
}

// add stores a task. As long as there is time, it asks again when it cannot know
// whether the store has it: the same id is stored once.
func (in *intake) add(ctx context.Context, task NewTask, came *received) (Added, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	var unsure error
	for {
		added, err := in.store.Add(ctx, task)
		var reused *KeyReusedError
		if errors.As(err, &reused) && reused.First.Fingerprint != task.Twin {
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
		case unsure != nil: // the first one may be stored, whatever becomes of this one
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

// task builds the record of a call.
func (in *intake) task(ctx context.Context, info *connect.CallInfo, terms terms, came *received) (NewTask, error) {
	header := info.RequestHeader()
	caller := cmp.Or(header.Get(contract.HeaderCaller), contract.Anonymous)
	if !utf8.ValidString(caller) {
		return NewTask{}, contract.Errorf(momv1.Reason_REASON_HEADER_INVALID, "%s: want UTF-8", contract.HeaderCaller)
	}
	id, err := in.minted(header)
	if err != nil {
		return NewTask{}, err
	}
	call := &momv1.Call{
		Procedure: in.method.Procedure,
		Caller:    caller,
		Protocol:  info.Protocol,
		HttpMajor: 1,
		Header:    metadata(header, ofRequest),
		Message:   came.raw,
		Codec:     came.codec,
	}
	call.RecordVersion = versionOf(came.json(), nil, call.GetHeader())
	if http, ok := connecthttp.ServerInfoForContext(ctx); ok && http.RequestProto() == "HTTP/2.0" {
		call.HttpMajor = 2
	}
	offer, _ := strconv.ParseInt(header.Get(contract.HeaderOffer), 10, 64) // 0: it did not say
	task := NewTask{
		ID:         id,
		Offer:      offer,
		Call:       call,
		Repeatable: in.method.Repeatable,
		Cause:      strings.ToValidUTF8(header.Get(contract.HeaderCause), "?"),
		TTL:        terms.ttl,
		AnswerTTL:  terms.answerTTL,
		Kept:       terms.key != "" || terms.prefer.Async || terms.hold(ctx) == 0 || header.Get(contract.HeaderKept) != "",
	}
	if terms.key != "" {
		call.IdempotencyKey = terms.key
		task.KeyHash = digest([]byte(caller), []byte(in.method.Procedure), []byte(terms.key))
		if task.Request, err = came.request(in.shelf.name(in.route.Service)); err != nil {
			return NewTask{}, err
		}
	}
	return task, nil
}

func digest(parts ...[]byte) string {
	hash := sha256.New()
	for _, part := range parts {
		_, _ = fmt.Fprintf(hash, "%d:", len(part)) // no two lists of parts look alike
		_, _ = hash.Write(part)
	}
	return hex.EncodeToString(hash.Sum(nil)[:16])
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

// refuse says that the error which follows is the caller's, and why the call is
// surely not stored.
func refuse(info *connect.CallInfo, why string) {
	info.ResponseHeader().Set(contract.HeaderRefused, why)
}

// addFailed says that a call could not be stored, or may not have been.
func (in *intake) addFailed(ctx context.Context, info *connect.CallInfo, task NewTask, err error) error {
	switch {
	case errors.Is(err, ErrKeyReused):
		refuse(info, contract.RefusedCall)
		return keyReused(err)
	case errors.Is(err, ErrQueueFull):
		refuse(info, contract.RefusedNow)
		return contract.Errorf(momv1.Reason_REASON_QUEUE_FULL, "the queue of %s is full; the call was not stored", in.route.Service)
	case errors.Is(err, ErrMoved):
		return in.misplaced(ctx, info, task)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	in.once.Warn("not stored", "call not stored", "task", task.ID, "procedure", in.method.Procedure, "error", err)
	if errors.Is(err, ErrNotSent) {
		return in.notStored(info, task.Cause, "the store cannot be reached")
	}
	info.ResponseHeader().Set(contract.HeaderUnsure, "1")
	if in.method.Repeatable {
		return contract.Errorf(momv1.Reason_REASON_STORE_UNCERTAIN, "the call may or may not be stored; it may be sent again")
	}
	return contract.Errorf(momv1.Reason_REASON_OUTCOME_UNKNOWN, "the call may or may not be stored; it may still be executed")
}

// notStored says why the call came here and why it cannot stay.
func (in *intake) notStored(info *connect.CallInfo, cause, why string) error {
	refuse(info, contract.RefusedNow)
	return contract.Errorf(momv1.Reason_REASON_STORE_UNAVAILABLE, "%s, and %s; it was not stored", contract.WhyStored(in.route.Service, cause), why)
}

// notReceived tells of a message that could not be read. One that is small only as long as it is
// compressed is too large to be stored: an outage must not make a final error of that.
func (in *intake) notReceived(info *connect.CallInfo, err error) error {
	if connect.CodeOf(err) != connect.CodeResourceExhausted {
		return err
	}
	cause := info.RequestHeader().Get(contract.HeaderCause)
	reason := momv1.Reason_REASON_REQUEST_TOO_LARGE
	if cause != "" {
		reason = momv1.Reason_REASON_CALL_NOT_STORABLE
	}
	return contract.Errorf(reason, "%s, and its message is larger than %d bytes; it was not stored", contract.WhyStored(in.route.Service, cause), maxRequest)
}
