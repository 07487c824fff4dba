package mom

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// What a Store may answer besides success and trouble.
var (
	// ErrNotFound: there is no such task.
	ErrNotFound = errors.New("no such task")
	// ErrKeyReused: the idempotency key names a task with another request.
	ErrKeyReused = errors.New("idempotency key reused for another request")
	// ErrQueueFull: the shard holds as many tasks or bytes as it may, or the store
	// as much as it can.
	ErrQueueFull = errors.New("queue is full")
	// ErrTaskState: the task's state does not allow the transition.
	ErrTaskState = errors.New("the task's state does not allow this")
	// ErrCallDropped: the task is DEAD or UNCERTAIN, and its call is not kept any
	// more.
	ErrCallDropped = errors.New("the task's call is no longer kept")
	// ErrFenced: the lease is no longer the task's. Its holder must let go.
	ErrFenced = errors.New("lease lost")
	// ErrMoved: the number of shards is another than the task was placed by. Nothing
	// was stored.
	ErrMoved = errors.New("the number of shards has changed")
	// ErrUnavailable: the store did not answer, or cannot now. Whether the
	// transition happened is unknown; repeating it is harmless.
	ErrUnavailable = errors.New("store unavailable")
	// ErrNotSent goes with ErrUnavailable where the transition surely did not
	// happen: there was no connection, or the server refused.
	ErrNotSent = errors.New("not sent to the store")
	// ErrRecordVersion: a newer release has written the record in a format that this one does not know. It is left unchanged.
	ErrRecordVersion = errors.New("unknown record version")
	// ErrStoreLost: the store is not the one that it was. It was emptied, or another has its
	// place; the tasks that it held are not there.
	ErrStoreLost = errors.New("the store was emptied or replaced: tasks that it held are lost")
)

// Shard is a part of one service's queue, the unit of order and of Redis slots.
type Shard struct {
	Service string
	Index   int
}

// ShardOf returns the shard that a task lies in.
func ShardOf(id contract.TaskID) Shard { return Shard{Service: id.Service, Index: id.Shard} }

// Numbering is the number of shards that the tasks of a service are placed among.
// The store owns it.
type Numbering struct {
	Shards int
	Epoch  int64 // counts the changes of the number
	// Earlier are numbers of before. Tasks that were placed by them may still be
	// there, and keys that name such tasks.
	Earlier []int
}

// All is how many shards may have tasks: those from Shards on get no new ones.
func (n Numbering) All() int { return slices.Max(append([]int{n.Shards}, n.Earlier...)) }

// NewTask is a call to be stored.
type NewTask struct {
	ID contract.TaskID
	// Epoch is that of the Numbering by which the ID has its shard, and Earlier are
	// the shards that it would have by earlier numbers.
	Epoch      int64
	Earlier    []int
	Call       *momv1.Call
	Repeatable bool   // the method may run more than once
	Cause      string // why it was handed off
	TTL        time.Duration
	AnswerTTL  time.Duration
	// Kept: somebody gets its handle, so it is not abandoned. Of a task that is
	// stored already, this alone is added.
	Kept bool
	// Waits: a caller waits for its answer here. Watch tells of its end, unless Settle was told that the caller is told.
	Waits bool
	// Offer is how often the gateway has offered this call, this time included;
	// 0 where it did not say. The store remembers the last one.
	Offer int64
	// KeyHash names caller, procedure and idempotency key; empty without a key.
	KeyHash string
	// Request tells the request from others under the same key.
	Request
	// Twin is the fingerprint of the request that the key names, once it was found to
	// be this one all the same.
	Twin string
	// Until is when the store gives up; zero: as for all transitions.
	Until time.Time
}

// Request is what is kept of a request, as long as its key: two requests are compared by the schema that
// the first was read by, since other schemas make other bytes of the same message.
type Request struct {
	// Fingerprint is a hash of the message. The same one is the same request.
	Fingerprint string
	// Known is a hash of the message without the fields that the schema does not know; JSON
	// cannot carry those. Empty: as Fingerprint.
	Known string
	// JSON: the request came as JSON.
	JSON bool
	// Schema names the schema. Empty in records of older releases.
	Schema string
}

// KeyReusedError says that a key names a task whose request has another fingerprint.
type KeyReusedError struct {
	First Request
	// Call has the first request, where its schema is not known and it is still there.
	Call *momv1.Call
}

// Error implements error.
func (e *KeyReusedError) Error() string { return ErrKeyReused.Error() }

// Unwrap makes it an ErrKeyReused.
func (e *KeyReusedError) Unwrap() error { return ErrKeyReused }

// Departure is a caller who is gone without a handle.
type Departure struct {
	ID contract.TaskID
	// Lost: only its connection was lost, and with it the hold of the given
	// Offer. It counts as gone unless the call was offered again since; if it is
	// offered later, it is stored anew.
	Lost  bool
	Offer int64
}

// Added says what became of a NewTask.
type Added struct {
	// ID is the stored task's: the new one's, or that of the task which the key
	// already named.
	ID contract.TaskID
	// Attached: the key already named a task with the same request. Nothing
	// was stored.
	Attached bool
	// Known: the ID's own task was stored before. It may have ended since.
	Known bool
	// ExpireTime is when the task expires; zero when Attached.
	ExpireTime time.Time
}

// Lease is a replayer's hold on one task. Every transition that starts from a
// lease is fenced by its epoch: once the lease has run out and the task has
// been leased again, the older holder only gets ErrFenced.
type Lease struct {
	ID         contract.TaskID
	Epoch      int64
	Attempts   int // attempts that the service may have seen so far
	PutBack    int // how often it was put back
	Repeatable bool
	Remaining  time.Duration // of the task's TTL; may be negative once it runs
	Call       *momv1.Call
	Size       int // of the call as it is stored, in bytes
}

// Room is how many tasks a replayer takes.
type Room struct {
	Tasks int
	Again int // of these, such as have failed before
	Once  int // of these, such as may not run twice
	// Fresh: such as have failed before come after all others, and so do such as were refused.
	Fresh bool
}

// Depth counts a shard's tasks.
type Depth struct {
	Queued, Running, Retrying, Dead int64
	Uncertain                       int64 // of Dead, those that are UNCERTAIN
	Paused                          bool
	OldestWait                      time.Duration // of the task at the head; 0 when none waits
	Bytes                           int64         // of the stored calls, those of parked tasks too
	Limits                          Limits
	Parked                          Parked
}

// Empty tells whether no task is there that waits for its service, for an answer or for a person.
func (d Depth) Empty() bool { return d.Queued+d.Running+d.Retrying+d.Dead == 0 }

// The longest lease, wait on behalf of a service, and pause before the next attempt that a Store is asked for. When the
// Store finds a longer one, its clock was set back.
const (
	LongestLease   = leaseTime
	LongestWait    = maxRefusalWait
	LongestBackoff = LongestWait + time.Second
)

// NewestRecord is the newest version of a record that this release can read. The oldest is 1.
const NewestRecord = BornRecordVersion

// Parked tells of the tasks that wait for a person: DEAD or UNCERTAIN, and not yet
// given up.
type Parked struct {
	Bytes  int64         // what their calls take
	Oldest time.Duration // since the first of them was parked; 0 when there is none
	// Share is how much is used up of their time or of their room, whichever is
	// nearer to its end. From 1 on, the oldest tasks are given up.
	Share float64
}

// Reaped is what Reap did in a shard and found there.
type Reaped struct {
	// Next is the time until something is next due, a few seconds at most while
	// tasks wait, since a bell may be lost; 0 means now, negative never.
	Next    time.Duration
	GivenUp int64 // parked tasks that were given up: their calls are dropped
	Parked  Parked
}

// Durability is what a crash of the store costs.
type Durability struct {
	// Snapshots: the store keeps what is in it only now and then, so that all that was
	// accepted, or has ended, since then would be as it was.
	Snapshots bool
	Unsaved   int64 // changes since the last snapshot; 0 unless Snapshots
}

// Limits bound the leases of a shard, over all replayers. 0 is no limit.
type Limits struct {
	Running   int64   // at once
	PerSecond float64 // new ones in any second, whole ones; below 1 one in 1/PerSecond seconds
}

// LimitedError says that there are tasks, and that the limits allow no lease yet.
type LimitedError struct {
	Wait time.Duration // until it is worth to ask again
}

// Error implements error.
func (e *LimitedError) Error() string { return "limited: no lease for " + e.Wait.String() }

// Store keeps tasks. What each part of the MOM needs of it stands beside that part. Each method is one
// atomic transition or one read; each may be repeated after an error whose effect is unknown, and is
// then harmless. All are safe for concurrent use, by many processes on one store, and return within
// their context's deadline. Transitions of one task end by themselves, within less than a second.
type Store interface {
	intakeStore
	holdStore
	taskStore
	queueStore
	replayStore
	attemptStore
	reapStore
	shardStore
	shelfStore
	checkStore

	// Watch calls changed for the transitions of tasks after they were made: for all that somebody waits for, see Listen and
	// NewTask, and now and then for one of the others, which tells that something happens in the shard. It calls
	// resync whenever transitions may have been missed (after each
	// connect). It blocks until ctx ends and reconnects by itself. Both are
	// called one at a time; while they run, no transition is read.
	Watch(ctx context.Context, shards []Shard, changed func(Shard, []Transition), resync func()) error
}

// Transition is one that a task has made.
type Transition struct {
	ULID  ulid.ULID
	State momv1.TaskState
	// Answer is the one that the task has ended with, if it is small.
	Answer *momv1.Answer
}

// StateOf is the state of a task that has ended with an answer.
func StateOf(answer *momv1.Answer) momv1.TaskState {
	if answer.GetError() != nil {
		return momv1.TaskState_TASK_STATE_FAILED
	}
	return momv1.TaskState_TASK_STATE_SUCCEEDED
}
