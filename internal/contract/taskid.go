package contract

import (
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"
)

// TaskID names a task as {package.Service}.{shard}.{ULID}: the queue it lies
// in, the shard of that queue, and 80 random bits behind a millisecond. The id
// alone finds the task's slot in a Redis Cluster, and in open mode it is the
// capability to read the task.
type TaskID struct {
	Service string
	Shard   int
	ULID    ulid.ULID
}

// NewTaskID makes a new id in a queue with this number of shards (less than one counts as
// one). Tasks of one caller, procedure and key always share a shard. A task without a key
// goes to the shard that its own ULID picks.
func NewTaskID(service string, shards int, caller, procedure, key string) TaskID {
	// Not ulid.Make: its ids of one millisecond can be guessed from one another.
	id := TaskID{Service: service, ULID: ulid.MustNew(ulid.Now(), rand.Reader)}
	return id.Placed(shards, caller, procedure, key)
}

// Placed is the same id in a queue with another number of shards: see NewTaskID.
func (id TaskID) Placed(shards int, caller, procedure, key string) TaskID {
	id.Shard = 0
	if shards > 1 {
		hash := fnv.New32a()
		if key == "" {
			_, _ = hash.Write(id.ULID[:])
		} else {
			_, _ = fmt.Fprintf(hash, "%s\x00%s\x00%s", caller, procedure, key)
		}
		id.Shard = int(hash.Sum32() % uint32(shards))
	}
	return id
}

// errTaskID says what a task id looks like; ids come from users.
var errTaskID = errors.New("a task id looks like package.Service.0.01JD3Z0000000000000000000")

// ParseTaskID reads an id from the right, since a service's name has dots too.
func ParseTaskID(s string) (TaskID, error) {
	rest, last, ok := cutLast(s)
	service, shard, ok2 := cutLast(rest)
	if !ok || !ok2 || service == "" {
		return TaskID{}, errTaskID
	}
	id, err := ulid.ParseStrict(last)
	if err != nil {
		return TaskID{}, errTaskID
	}
	n, err := strconv.ParseUint(shard, 10, 16)
	if err != nil {
		return TaskID{}, errTaskID
	}
	return TaskID{Service: service, Shard: int(n), ULID: id}, nil
}

// String is the inverse of ParseTaskID.
func (id TaskID) String() string {
	return id.Service + "." + strconv.Itoa(id.Shard) + "." + id.ULID.String()
}

// LogValue implements slog.LogValuer: a log has the id as callers know it.
func (id TaskID) LogValue() slog.Value { return slog.StringValue(id.String()) }

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
