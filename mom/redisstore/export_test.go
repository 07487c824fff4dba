package redisstore

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"holdline/mom"
)

// AddAndLease stores tasks and leases in one turn.
func (s *Store) AddAndLease(ctx context.Context, shard mom.Shard, tasks []mom.NewTask, room mom.Room, d time.Duration) (
	added []mom.Added, refused []error, leases []mom.Lease, err error,
) {
	lease := &asked{kind: aLease, argv: roomFor(room, millis(d)), done: make(chan struct{})}
	batch := []*asked{lease}
	for _, task := range tasks {
		call, err := proto.MarshalOptions{Deterministic: true}.Marshal(task.Call)
		if err != nil {
			return nil, nil, nil, err
		}
		add := askToAdd(task, call, false)
		add.done = make(chan struct{})
		batch = append(batch, add)
	}
	s.keys(shard).turns.make(batch, true) // which sorts them
	leases, _, err = s.readLeases(ctx, shard, lease, lease.reply, lease.err)
	for i, task := range tasks {
		one, err := mom.Added{}, batch[i].err
		if err == nil {
			one, err = s.readAdded(ctx, task, batch[i].reply)
		}
		added, refused = append(added, one), append(refused, err)
	}
	return added, refused, leases, err
}
