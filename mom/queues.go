package mom

import (
	"context"
	"log/slog"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// listTime is how long a list of queues or of tasks may take, while parts of the store are slow or silent.
const listTime = 2 * time.Second

const (
	// MinRate is the lowest rate that LimitQueue takes, in tasks a second. It also takes 0, which is no limit.
	MinRate = 0.1
	// MaxRate is the highest rate.
	MaxRate = 1e6
)

// queueStore is what the service of queues needs of the store.
type queueStore interface {
	// Pause stops or starts leasing in a shard; starting rings the bell.
	Pause(ctx context.Context, shard Shard, paused bool) error
	// Limit limits leasing in a shard, for all MOMs together; it rings the bell. Tasks that were leased
	// under a rate also count under the next rate, so setting the same rate again changes nothing.
	Limit(ctx context.Context, shard Shard, limits Limits) error
	// RetryDead retries all DEAD tasks of a shard, and the UNCERTAIN ones if
	// asked to. Returns their number.
	RetryDead(ctx context.Context, shard Shard, uncertain bool) (int64, error)
	// Restore is for a store that was restored from a backup. It parks the tasks of a shard that may have run after the
	// backup: tasks that are not repeatable and were stored before the store was started
	// become UNCERTAIN. Returns their number; after an error, the number of those that already have.
	Restore(ctx context.Context, shard Shard) (int64, error)
	// Renumber changes the number of shards of a service. From then on, new tasks
	// are placed by the new number; older tasks stay where they are. After an error
	// the change may have begun: the next Renumber or Numbering completes it.
	Renumber(ctx context.Context, service string, shards int) (Numbering, error)
}

// queueService implements momv1connect.QueueServiceHandler, for operators.
type queueService struct {
	store    queueStore
	shards   *shards
	onHold   bool // the MOM
	seen     lastLook
	draining <-chan struct{}
	log      *slog.Logger
}

// ListQueues implements momv1connect.QueueServiceHandler.
func (s *queueService) ListQueues(ctx context.Context, _ *momv1.ListQueuesRequest) (*momv1.ListQueuesResponse, error) {
	queues, err := s.list(ctx)
	return &momv1.ListQueuesResponse{Queues: queues}, err
}

// PauseQueue implements momv1connect.QueueServiceHandler.
func (s *queueService) PauseQueue(ctx context.Context, req *momv1.PauseQueueRequest) (*momv1.PauseQueueResponse, error) {
	queue, err := s.pause(ctx, req.GetService(), "queue paused", true)
	return &momv1.PauseQueueResponse{Queue: queue}, err
}

// ResumeQueue implements momv1connect.QueueServiceHandler.
func (s *queueService) ResumeQueue(ctx context.Context, req *momv1.ResumeQueueRequest) (*momv1.ResumeQueueResponse, error) {
	queue, err := s.pause(ctx, req.GetService(), "queue resumed", false)
	return &momv1.ResumeQueueResponse{Queue: queue}, err
}

// LimitQueue implements momv1connect.QueueServiceHandler. The shards share the
// limits evenly, but each may always have one task under way.
func (s *queueService) LimitQueue(ctx context.Context, req *momv1.LimitQueueRequest) (*momv1.LimitQueueResponse, error) {
	running, rate := req.GetMaxRunning(), req.GetMaxPerSecond()
	if running < 0 || rate != 0 && !(rate >= MinRate && rate <= MaxRate) { // NaN is neither
		return nil, connect.Errorf(connect.CodeInvalidArgument, "max_running must not be negative, and max_per_second be 0 or from %g to %g", MinRate, MaxRate)
	}
	if err := s.has(req.GetService()); err != nil {
		return nil, err
	}
	if err := s.limit(ctx, req.GetService(), Limits{Running: running, PerSecond: rate}); err != nil {
		return nil, storeError(err)
	}
	s.operated(ctx, "queue limited", req.GetService(), "max_running", running, "max_per_second", rate)
	queue, err := s.queue(ctx, req.GetService())
	return &momv1.LimitQueueResponse{Queue: queue}, err
}

// RetryDead implements momv1connect.QueueServiceHandler.
func (s *queueService) RetryDead(ctx context.Context, req *momv1.RetryDeadRequest) (*momv1.RetryDeadResponse, error) {
	res := &momv1.RetryDeadResponse{}
	err := s.each(ctx, req.GetService(), func(shard Shard) error {
		n, err := s.store.RetryDead(ctx, shard, req.GetUncertain())
		res.Retried += n
		return err
	})
	if err == nil || res.GetRetried() > 0 {
		s.operated(ctx, "dead tasks to be retried", req.GetService(), "tasks", res.GetRetried(), "uncertain", req.GetUncertain())
	}
	return res, err
}

// RestoreQueue implements momv1connect.QueueServiceHandler. It works only on hold: otherwise the MOM may already have
// replayed the tasks that it should park.
func (s *queueService) RestoreQueue(ctx context.Context, req *momv1.RestoreQueueRequest) (*momv1.RestoreQueueResponse, error) {
	services := s.shards.services()
	if req.GetService() != "" {
		services = []string{req.GetService()}
	}
	res := &momv1.RestoreQueueResponse{}
	for _, service := range services {
		if err := s.has(service); err != nil {
			return nil, err
		}
		if !s.onHold {
			return nil, connect.NewError(connect.CodeFailedPrecondition, "this MOM replays tasks: start it with --hold, and all others too, before you restore a queue")
		}
		var uncertain int64
		err := s.each(ctx, service, func(shard Shard) error {
			n, err := s.store.Restore(ctx, shard)
			uncertain += n
			return err
		})
		res.Uncertain += uncertain
		if err != nil {
			return nil, err
		}
		s.operated(ctx, "queue restored", service, "uncertain", uncertain)
	}
	return res, nil
}

// pause pauses or resumes a queue, which the log calls done.
func (s *queueService) pause(ctx context.Context, service, done string, paused bool) (*momv1.Queue, error) {
	if err := s.each(ctx, service, func(shard Shard) error { return s.store.Pause(ctx, shard, paused) }); err != nil {
		return nil, err
	}
	s.operated(ctx, done, service)
	return s.queue(ctx, service)
}

// list shows all queues. If the store does not answer about one queue, the others are shown all the same.
func (s *queueService) list(ctx context.Context) ([]*momv1.Queue, error) {
	var queues []*momv1.Queue
	bounded, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	read, failed := 0, error(nil)
	for _, service := range s.shards.services() {
		depth, err := s.shards.depth(bounded, service)
		if err != nil {
			s.log.Debug("queue not listed", "service", service, "error", err)
			queues, failed = append(queues, &momv1.Queue{Service: service, Unreadable: true}), storeError(err)
			continue
		}
		read++
		if !depth.gone() {
			queues = append(queues, s.show(service, depth))
		}
	}
	if read == 0 {
		return nil, failed
	}
	return queues, nil
}

// queue shows the queue of a service.
func (s *queueService) queue(ctx context.Context, service string) (*momv1.Queue, error) {
	depth, err := s.shards.depth(ctx, service)
	if err != nil {
		return nil, storeError(err)
	}
	return s.show(service, depth), nil
}

func (s *queueService) show(service string, depth queueDepth) *momv1.Queue {
	q := &momv1.Queue{
		Service: service, OnHold: s.onHold, Queued: depth.Queued, Running: depth.Running, Retrying: depth.Retrying, Dead: depth.Dead, Uncertain: depth.Uncertain, Paused: depth.Paused,
		Bytes: depth.Bytes, ParkedBytes: depth.Parked.Bytes, MaxRunning: depth.Limits.Running, MaxPerSecond: depth.Limits.PerSecond,
		NoRoute: depth.noRoute, Shards: int32(depth.shards), OldShards: int32(depth.oldShards),
	}
	if depth.Parked.Oldest > 0 {
		q.OldestParked = durationpb.New(depth.Parked.Oldest)
	}
	if depth.Refused > 0 {
		q.Refused = durationpb.New(depth.Refused)
	}
	if depth.OldestWait > 0 {
		q.OldestWait = durationpb.New(depth.OldestWait)
	}
	return q
}

// has returns an error if there is no queue of a service.
func (s *queueService) has(service string) error {
	if s.shards.alarm(service) == nil {
		return contract.Errorf(momv1.Reason_REASON_NO_ROUTE, "no route for service %q, and no tasks of it", service)
	}
	return nil
}

// each calls do for the shards of a service.
func (s *queueService) each(ctx context.Context, service string, do func(Shard) error) error {
	if err := s.has(service); err != nil {
		return err
	}
	if _, err := s.shards.numbering(ctx, service); err != nil { // there may be more than we know
		return storeError(err)
	}
	for _, shard := range s.shards.of(service) {
		if err := do(shard); err != nil {
			return storeError(err)
		}
	}
	return nil
}
