package mom

import (
	"context"
	"errors"
	"fmt"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// read reads a task under the store's deadline.
func read(ctx context.Context, store Store, id contract.TaskID) (*momv1.Task, *momv1.Answer, error) {
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	task, answer, err := store.Get(bounded, id)
	if v := answer.GetRecordVersion(); answer != nil && !knownRecord(v) {
		return nil, nil, fmt.Errorf("answer of task %s has record version %d, which this release does not know", id, v)
	}
	return task, answer, storeError(err)
}

// storeError puts a store's error into what callers are told. Internals stay as
// they are, to be logged.
func storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotFound):
		return contract.Errorf(momv1.Reason_REASON_TASK_NOT_FOUND, "no such task").WithCause(err)
	case errors.Is(err, ErrCallDropped):
		return contract.Errorf(momv1.Reason_REASON_TASK_STATE,
			"the call is no longer kept, since the task was dismissed or given up; make the call again if it should run")
	case errors.Is(err, ErrUnavailable):
		return contract.Errorf(momv1.Reason_REASON_STORE_UNAVAILABLE, "the store cannot be reached").WithCause(err)
	}
	return err
}
