package mom

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// unplaced is the shard of an id that no gateway has minted.
const unplaced = -1

// minted reads the id that a gateway has minted for a call. A call that came without a gateway gets
// its id here.
func (in *intake) minted(x *incoming) (contract.TaskID, error) {
	raw := x.first(contract.HeaderTask)
	if raw == "" {
		id := contract.NewTaskID(in.route.Service, 1, "", "", "")
		id.Shard = unplaced
		return id, nil
	}
	id, err := contract.ParseTaskID(raw)
	if err != nil || id.Service != in.route.Service {
		return id, contract.Errorf(momv1.Reason_REASON_HEADER_INVALID, "%s: %q is no id of a task of %s", contract.HeaderTask, raw, in.route.Service)
	}
	return id, nil
}

// place puts a task into its shard. If its id names another shard, the call is refused with the number of
// shards, from which the gateway finds the right shard. We must not mint another id here: the call would be stored twice
// if it is offered again.
func (in *intake) place(ctx context.Context, x *incoming, task *NewTask) error {
	is, err := in.shards.numbering(ctx, in.route.Service)
	if err == nil && task.ID.Shard != unplaced && !task.placeBy(is) {
		is, err = in.shards.read(ctx, in.route.Service) // the gateway may know a newer number than we do
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		in.once.Warn("unnumbered "+in.route.Service, "calls not stored: the number of shards cannot be read", "service", in.route.Service, "error", err)
		return in.notStored(x, *task, "the number of shards of its queue cannot be read")
	case task.ID.Shard == unplaced:
		task.ID.Shard = task.shardBy(is.Shards)
	}
	if !task.placeBy(is) {
		return in.misplaced(ctx, x, *task)
	}
	return nil
}

// placeAgain is place for a task that the store did not take because the number of shards has
// changed. ErrMoved if the task's shard has changed, too. In both cases the task is not stored yet.
func (in *intake) placeAgain(ctx context.Context, task *NewTask) error {
	is, err := in.shards.read(ctx, in.route.Service)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNotSent, err)
	case !task.placeBy(is):
		return ErrMoved
	}
	return nil
}

// misplaced refuses, for now, a task whose id names the wrong shard.
func (in *intake) misplaced(ctx context.Context, x *incoming, task NewTask) error {
	is, err := in.shards.numbering(ctx, in.route.Service)
	if err != nil {
		return in.notStored(x, task, "the number of shards of its queue cannot be read")
	}
	x.said.Set(contract.HeaderShards, strconv.Itoa(is.Shards))
	x.refuse(contract.RefusedNow)
	return contract.Errorf(momv1.Reason_REASON_STORE_UNAVAILABLE,
		"the queue of %s has %d shards, and the id %s was made for another number; the call was not stored", in.route.Service, is.Shards, task.ID)
}

// shardBy is the index of the task's shard if there are that many shards.
func (t *NewTask) shardBy(shards int) int {
	return t.ID.Placed(shards, t.Call.GetCaller(), t.Call.GetProcedure(), t.Call.GetIdempotencyKey()).Shard
}

// placeBy tells whether the id names the shard where the task belongs. If so, it also sets task.Earlier: the
// shards where earlier numbers would have placed the task.
func (t *NewTask) placeBy(is Numbering) bool {
	if t.shardBy(is.Shards) != t.ID.Shard {
		return false
	}
	t.Epoch, t.Earlier = is.Epoch, nil
	for _, shards := range is.Earlier {
		if shard := t.shardBy(shards); shard != t.ID.Shard && !slices.Contains(t.Earlier, shard) {
			t.Earlier = append(t.Earlier, shard)
		}
	}
	return true
}
