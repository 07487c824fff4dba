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

// tellErrors logs errors that are not meant for callers, who then get their code
// alone, and those that callers get and operators should know of. It prepares the HTTP status and the headers of the error.
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

// tell is tellErrors for one error, and what is said with it. Clients of gRPC may show an error's trailers alone, so the task is named there, too.
func tell(ctx context.Context, once *logonce.Logger, err error, procedure, protocol string, header, trailer heads) error {
	if _, ok := err.(*contract.HandleError); ok || err == nil { //nolint:errorlint // it is not wrapped
		return err
	}
	task := header.Get(contract.HeaderTask)
	offeredAgain := header.Get(contract.HeaderShards) != "" || header.Get(contract.HeaderUnsure) != "" // by the gateway, which tells what came of it
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

// tellTime tells a caller whose time is over just that. Whatever else failed, such as a read of the store, may have been cut short by it.
func tellTime(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		err := next(ctx, spec, stream)
		if over := ctx.Err(); err != nil && over != nil {
			return over
		}
		return err
	}
}

// notice logs an error that a caller gets in place of an answer: the same thing once
// per interval. The task is its id, or empty.
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
		key += " " + rpcErr.Message() // it names the cause, of which there are few
	}
	attrs := []any{"reason", n.Reason, "service", service, "procedure", procedure, "error", rpcErr.Message()}
	if task != "" {
		attrs = append(attrs, "task", task)
	}
	once.Log(n.Level, key, n.Message, attrs...)
}

// asker is who asks for something: the peer of the connection, and whom a gateway
// there says that it speaks for.
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
