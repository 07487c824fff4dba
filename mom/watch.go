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

// lastLook is the last look at all queues. All watchers share it, so that any number of
// watchers costs the store the same: a look is new enough for minInterval. It is safe for
// concurrent use.
type lastLook struct {
	mu   sync.Mutex
	look *queueLook
}

// queueLook is a look that was taken, or that somebody is taking now.
type queueLook struct {
	done   chan struct{} // closed once the other fields are set
	at     time.Time
	queues []*momv1.Queue
	err    error
}

// get returns the queues of the last look, or calls list for a new look if the last one is too old. An error goes only to
// those who waited for this look.
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

// old tells whether a look is too old, or has failed.
func (l *queueLook) old() bool {
	select {
	case <-l.done:
		return l.err != nil || time.Since(l.at) >= minInterval
	default:
		return false
	}
}

// WatchQueues implements momv1connect.QueueServiceHandler. A watcher who reads slowly skips
// looks: it always gets the current state of the queues.
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
