package mom

import (
	"context"
	"sync"
	"time"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
)

const (
	// The interval of WatchQueues.
	defaultInterval = time.Second
	minInterval     = 250 * time.Millisecond
)

// lastLook is the last look at all queues. Those who watch share it, so that any number of
// them costs the store the same: nobody needs a newer one than minInterval. It is safe for
// concurrent use.
type lastLook struct {
	mu   sync.Mutex
	look *queueLook
}

// queueLook is one that was taken, or is being taken by somebody.
type queueLook struct {
	done   chan struct{} // closed once the rest is there
	at     time.Time
	queues []*momv1.Queue
	err    error
}

// get returns what was seen last, or what list sees if that is too long ago. An error is for
// those who waited for it.
func (l *lastLook) get(ctx context.Context, list func(context.Context) ([]*momv1.Queue, error)) ([]*momv1.Queue, error) {
	l.mu.Lock()
	shared := l.look
	if shared == nil || shared.old() {
		own := &queueLook{done: make(chan struct{})}
		l.look = own
		l.mu.Unlock()
		defer close(own.done)
		own.queues, own.err = list(context.WithoutCancel(ctx)) // others wait for it, too
		own.at = time.Now()
		return own.queues, own.err
	}
	l.mu.Unlock()
	select {
	case <-shared.done:
		return shared.queues, shared.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// old tells that a look is of no use any more.
func (l *queueLook) old() bool {
	select {
	case <-l.done:
		return l.err != nil || time.Since(l.at) >= minInterval
	default:
		return false
	}
}

// WatchQueues implements momv1connect.QueueServiceHandler. A watcher who is slow to read gets
// what there is then.
func (s *queueService) WatchQueues(ctx context.Context, req *momv1.WatchQueuesRequest, stream momv1connect.QueueServiceWatchQueuesServerStream) error {
	interval := defaultInterval
	if req.GetInterval() != nil {
		interval = max(req.GetInterval().AsDuration(), minInterval)
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		queues, err := s.seen.get(ctx, s.list)
		if err != nil {
			return err
		}
		if err := stream.Send(&momv1.WatchQueuesResponse{Queues: queues}); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-s.draining:
			return connect.NewError(connect.CodeUnavailable, "this server is going away; watch again")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
