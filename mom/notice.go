package mom

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/logonce"
	"holdline/internal/route"
)

// tellErrors logs two kinds of errors: errors that are not meant for callers, of which a caller gets only the code,
// and errors that callers get and operators should know of. It also prepares the HTTP status and the headers of the error.
func tellErrors(once *logonce.Logger) connect.ServerInterceptor {
	return func(next connect.ServerFunc) connect.ServerFunc {
		return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
			err := next(ctx, spec, stream)
			info, ok := connect.CallInfoForServerContext(ctx)
			if err == nil || !ok {
				return err
			}
			if x := exchangeOf(ctx); x != nil {
				x.Status = contract.Status(err)
			}
			return tell(ctx, once, err, spec.Procedure, info.Protocol, info.ResponseHeader(), info.ResponseTrailer())
		}
	}
}

// tell is tellErrors for one error with its headers and trailers. Some clients of gRPC show only the trailers of an error, so the trailers name the task, too.
func tell(ctx context.Context, once *logonce.Logger, err error, procedure, protocol string, header, trailer heads) error {
	if _, ok := err.(*contract.HandleError); ok || err == nil { //nolint:errorlint // it is not wrapped
		return err
	}
	task := header.Get(contract.HeaderTask)
	offeredAgain := header.Get(contract.HeaderShards) != "" || header.Get(contract.HeaderUnsure) != "" // the gateway offers the call again, and logs the result
	if ctx.Err() == nil && !offeredAgain {
		notice(once, err, procedure, task)
	}
	if after := contract.RetryAfter(err); after != "" {
		header.Set("Retry-After", after)
	}
	if protocol != connect.ProtocolNameConnect && task != "" {
		trailer.Set(contract.HeaderTask, task)
	}
	return err
}

// tellTime answers a caller whose time is over with deadline_exceeded, whatever else failed: a read of the store, for example, may have failed only because the time was over.
func tellTime(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		err := next(ctx, spec, stream)
		if over := ctx.Err(); err != nil && over != nil {
			return over
		}
		return err
	}
}

// notice logs an error that a caller gets in place of an answer, the same error once
// per interval. task is the id of the task, or empty.
func notice(once *logonce.Logger, err error, procedure, task string) {
	rpcErr, ok := errors.AsType[*connect.Error](err)
	if !ok {
		once.Log(slog.LevelError, "failed "+procedure, "request failed", "procedure", procedure, "error", err)
		return
	}
	service, _, _ := route.SplitProcedure(procedure)
	if id, err := contract.ParseTaskID(task); err == nil {
		service = id.Service // the procedure is of our own TaskService
	}
	n, ok := contract.NoticeOf(err, service)
	if !ok {
		return
	}
	key := n.Key
	if contract.ReasonOf(err) == momv1.Reason_REASON_OUTCOME_UNKNOWN {
		key += " " + rpcErr.Message() // the message names the cause; there are few different causes
	}
	attrs := []any{"reason", n.Reason, "service", service, "procedure", procedure, "error", rpcErr.Message()}
	if task != "" {
		attrs = append(attrs, "task", task)
	}
	once.Log(n.Level, key, n.Message, attrs...)
}

// asker returns who has sent a request: the peer of the connection and, if the peer is a gateway, the sender that it
// names.
func asker(ctx context.Context) (attrs []any, host string) {
	info, ok := connect.CallInfoForServerContext(ctx)
	if !ok {
		return nil, ""
	}
	attrs = []any{"peer", info.PeerAddr}
	if host, _, _ = net.SplitHostPort(info.PeerAddr); host == "" {
		host = info.PeerAddr
	}
	if operator, _ := ctx.Value(operatorKey{}).(string); operator != "" {
		return append(attrs, "operator", operator), host + " " + operator
	}
	if via := info.RequestHeader().Get("X-Forwarded-For"); via != "" {
		attrs = append(attrs, "forwarded_for", via)
		host += " " + via
	}
	return attrs, host
}

// operated logs what an operator has done to a queue.
func (s *queueService) operated(ctx context.Context, msg, service string, attrs ...any) {
	who, _ := asker(ctx)
	s.log.Info(msg, append(append([]any{"service", service}, attrs...), who...)...)
}

// changed logs what somebody has done to a task. A program may do the same to thousands of tasks, so only one
// of a service is logged per caller and interval.
func (s *taskService) changed(ctx context.Context, msg string, id contract.TaskID) {
	who, host := asker(ctx)
	s.once.Log(slog.LevelInfo, msg+" "+id.Service+" "+host, msg, append([]any{"task", id}, who...)...)
}
