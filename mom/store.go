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

// Errors of a Store that its callers distinguish.
var (
	// ErrNotFound: there is no such task.
	ErrNotFound = errors.New("no such task")
	// ErrKeyReused: the idempotency key names a task with another request.
	ErrKeyReused = errors.New("idempotency key reused for another request")
	// ErrQueueFull: the shard has as many tasks or bytes as it may, or the store
	// has no more room.
	ErrQueueFull = errors.New("queue is full")
	// ErrTaskState: the task's state does not allow the transition.
	ErrTaskState = errors.New("the task's state does not allow this")
	// ErrCallDropped: the task is DEAD or UNCERTAIN, and its call is not kept any
	// more.
	ErrCallDropped = errors.New("the task's call is no longer kept")
	// ErrFenced: the lease has ended. Its holder must not do anything more with the task.
	ErrFenced = errors.New("lease lost")
	// ErrMoved: the number of shards has changed since the task was placed. Nothing
	// was stored.
	ErrMoved = errors.New("the number of shards has changed")
	// ErrUnavailable: the store did not answer, or cannot now. Whether the
	// transition happened is unknown; repeating it is harmless.
	ErrUnavailable = errors.New("store unavailable")
	// ErrNotSent goes with ErrUnavailable if the transition surely did not
	// happen: there was no connection, or the server refused.
	ErrNotSent = errors.New("not sent to the store")
	// ErrRecordVersion: a newer release has written the record in a format that this one does not know. It is left unchanged.
	ErrRecordVersion = errors.New("unknown record version")
	// ErrStoreLost: the store was emptied, or another store has taken its
	// place. The tasks that it had are not there.
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
	// Earlier has earlier numbers. There may still be tasks that were placed by them,
	// and keys that name such tasks.
	Earlier []int
}

// All is how many shards may have tasks. Shards with an index from Shards on get no new tasks.
func (n Numbering) All() int { return slices.Max(append([]int{n.Shards}, n.Earlier...)) }

// NewTask is a call to be stored.
type NewTask struct {
	ID contract.TaskID
	// Epoch is the epoch of the Numbering from which the ID has its shard. Earlier are
	// the shards that the task would have by earlier numbers.
	Epoch      int64
	Earlier    []int
	Call       *momv1.Call
	Repeatable bool   // the method may run more than once
	Cause      string // why it was handed off
	TTL        time.Duration
	AnswerTTL  time.Duration
	// Kept: somebody gets the task's handle, so the task is not abandoned. If the task is
	// stored already, Add only adds this.
	Kept bool
	// Waits: a caller waits for the task's answer at this MOM. The end of the task is published for Watch, unless Settle is called with told.
	Waits bool
	// Offer is how often the gateway has offered this call, this time included;
	// 0 if the gateway did not send the number. The store remembers the last number.
	Offer int64
	// KeyHash is a hash of caller, procedure and idempotency key; empty without a key.
	KeyHash string
	// Request distinguishes the request from others with the same key.
	Request
	// Twin is the fingerprint of the key's first request, if it differs from this request's fingerprint although
	// the two were found to be the same request.
	Twin string
	// Until is when the store gives up; zero: as for all transitions.
	Until time.Time
}

// Request is kept of a request as long as its key, to compare it with others. Two requests are compared with the schema with which
// the first was read, since other schemas may make other bytes from the same message.
type Request struct {
	// Fingerprint is a hash of the message. Requests with equal fingerprints are the same request.
	Fingerprint string
	// Known is a hash of the message without the fields that the schema does not know, which JSON
	// cannot carry. Empty: the same as Fingerprint.
	Known string
	// JSON: the request came as JSON.
	JSON bool
	// Schema names the schema. Empty in records of older releases.
	Schema string
}

// KeyReusedError means that a key names a task whose request has another fingerprint.
type KeyReusedError struct {
	First Request
	// Call has the first request, if its schema is not known and the call is still stored.
	Call *momv1.Call
}

// Error implements error.
func (e *KeyReusedError) Error() string { return ErrKeyReused.Error() }

// Unwrap makes it an ErrKeyReused.
func (e *KeyReusedError) Unwrap() error { return ErrKeyReused }

// Departure is a caller who is gone without a handle.
type Departure struct {
	ID contract.TaskID
	// Lost: only the caller's connection was lost, and with it the hold of the given
	// Offer. The caller counts as gone unless the call was offered again since. If it is
	// offered again later, it is stored anew.
	Lost  bool
	Offer int64
}

// Added is the result of adding a NewTask.
type Added struct {
	// ID is the id of the stored task: of the new task, or of the task that the key
	// already named.
	ID contract.TaskID
	// Attached: the key already named a task with the same request. Nothing
	// was stored.
	Attached bool
	// Known: the task with this ID was stored before. It may have ended since.
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
	PutBack    int // how often the task was put back
	Repeatable bool
	Remaining  time.Duration // what is left of the task's TTL; may be negative once the task runs
	Call       *momv1.Call
	Size       int // size of the stored call, in bytes
}

// LeaseBytes is how many bytes of calls one lease takes out of the queue; the last call may be larger. The store serves nobody else while it copies
// them, and all other replies on the connection wait until they have come: 64 calls of 1 MiB took Redis a third of a second.
const LeaseBytes = 1 << 20

// Room is the maximum number of tasks that a replayer takes.
type Room struct {
	Tasks int
	Again int // how many of these may have failed before
	Once  int // how many of these may be tasks that may not run twice
	// Fresh: tasks that have failed or were refused before come after all others.
	Fresh bool
}

// Depth counts a shard's tasks.
type Depth struct {
	Queued, Running, Retrying, Dead int64
	Uncertain                       int64 // how many of Dead are UNCERTAIN
	Paused                          bool
	OldestWait                      time.Duration // how long the task at the head has waited; 0 when none waits
	Bytes                           int64         // size of the stored calls, with those of parked tasks
	Limits                          Limits
	Parked                          Parked
	Refused                         time.Duration // for how much longer the service has asked to get no calls
}

// Empty tells whether no task waits for its service, for an answer or for a person.
func (d Depth) Empty() bool { return d.Queued+d.Running+d.Retrying+d.Dead == 0 }

// The longest lease, the longest wait that a service may ask for, and the longest pause before the next attempt that a Store is asked for. If the
// Store finds a longer one, its clock was set back.
const (
	LongestLease   = leaseTime
	LongestWait    = maxRefusalWait
	LongestBackoff = LongestWait + time.Second
)

// NewestRecord is the newest version of a record that this release can read. The oldest is 1.
const NewestRecord = BornRecordVersion

// Parked describes the tasks that wait for a person: DEAD or UNCERTAIN, and not yet
// given up.
type Parked struct {
	Bytes  int64         // size of their calls
	Oldest time.Duration // time since the first of them was parked; 0 when there is none
	// Share is the part of their time, or of their room, that is used up: the larger of
	// the two. From 1 on, the oldest tasks are given up.
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

// Durability describes what a crash of the store would lose.
type Durability struct {
	// Snapshots: the store saves its contents only now and then. A crash would undo everything since the last
	// snapshot: tasks that were accepted, and tasks that have ended.
	Snapshots bool
	Unsaved   int64 // changes since the last snapshot; 0 unless Snapshots
}

// Limits bound the leases of a shard, over all replayers. 0 is no limit.
type Limits struct {
	Running   int64   // leases at once
	PerSecond float64 // new leases in any second, rounded to whole ones; below 1: one lease in 1/PerSecond seconds
}

// LimitedError means that there are tasks, and that the limits allow no lease yet.
type LimitedError struct {
	Wait time.Duration // how long to wait before asking again
}

// Error implements error.
func (e *LimitedError) Error() string { return "limited: no lease for " + e.Wait.String() }

// Store keeps tasks. The methods that a part of the MOM needs are declared beside that part. Each method is one
// atomic transition or one read. After an error whose effect is unknown, a method may be called again: this is
// harmless. All methods are safe for concurrent use, by many processes on one store, and return within
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

	// Watch calls changed after tasks have made transitions: for all transitions that somebody waits for (see Listen and
	// NewTask), and now and then for one of the others, which shows that something happens in the shard. It calls
	// resync whenever transitions may have been missed (after each
	// connect). It blocks until ctx ends and reconnects by itself. changed and resync are
	// called one at a time; while they run, no transition is read.
	Watch(ctx context.Context, shards []Shard, changed func(Shard, []Transition), resync func()) error
}

// Transition is a transition that a task has made.
type Transition struct {
	ULID  ulid.ULID
	State momv1.TaskState
	// Answer is the answer with which the task has ended, if the answer is small.
	Answer *momv1.Answer
}

// StateOf is the state of a task that has ended with an answer.
func StateOf(answer *momv1.Answer) momv1.TaskState {
	if answer.GetError() != nil {
		return momv1.TaskState_TASK_STATE_FAILED
	}
	return momv1.TaskState_TASK_STATE_SUCCEEDED
}
