package load

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect/v2"

	"holdline/client"
)

// Reply is what came back of a call.
type Reply string

// What may come back.
const (
	Answered Reply = "answered"
	Handle   Reply = "handle"  // the call was accepted, and its answer comes later
	Refused  Reply = "refused" // by an error that was sent
	Broken   Reply = "broken"  // nothing came back
)

// ReplyOf tells which it was, by the error of the call.
func ReplyOf(err error) Reply {
	var rpcErr *connect.Error
	switch {
	case err == nil:
		return Answered
	case client.TaskFrom(err) != nil:
		return Handle
	case errors.As(err, &rpcErr) && rpcErr.IsRemote():
		return Refused
	}
	return Broken
}

// Pause waits, and returns false when ctx ends meanwhile.
func Pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
