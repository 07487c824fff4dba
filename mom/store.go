package mom

import (
	"context"
	"errors"
	"slices"
	"time"

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
}

// Room is how many tasks a replayer takes.
type Room struct {
	Tasks int
	Again int // of these, such as have failed before
	Once  int // of these, such as may not run twice
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

// Nobody asks a Store for a longer lease, for a longer wait on behalf of a service, or for a
// longer pause before the next attempt. By that it knows when its clock was set back.
const (
	LongestLease   = leaseTime
	LongestWait    = maxRefusalWait
	LongestBackoff = LongestWait + time.Second
)

// NewestRecord is the newest version of a record that this release can read. The oldest is 1.
const NewestRecord = jsonRecordVersion

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

// Store keeps tasks. Each method is one atomic transition or one read; each
// may be repeated after an error whose effect is unknown, and is then harmless.
// All are safe for concurrent use, by many processes on one store, and return
// within their context's deadline.
type Store interface {
	// Add stores a task at the tail of its queue and rings the bell. The same
	// ID again adds nothing and succeeds, in whichever shard the task was stored
	// before. *KeyReusedError, ErrQueueFull, ErrMoved.
	Add(ctx context.Context, task NewTask) (Added, error)
	// Get reads a task and its answer; the answer is nil when there is none,
	// or none any more. ErrNotFound.
	Get(ctx context.Context, id contract.TaskID) (*momv1.Task, *momv1.Answer, error)
	// List reads at most limit of a caller's tasks in one shard, newest first,
	// from those with a smaller ULID than before (all when empty), in one of
	// the states (any when none is given). It looks at a bounded number of
	// tasks, so it may find none though there are: next is where to go on,
	// empty at the end.
	List(ctx context.Context, shard Shard, caller, before string, limit int, states []momv1.TaskState) (tasks []*momv1.Task, next string, err error)

	// Lease takes tasks from the head of the queue for d, as far as there is room: others
	// go past those for which there is none. If all others have failed before, one of them
	// is taken without room for it. Tasks whose TTL is over expire on the way. None when
	// the shard is empty or paused. *LimitedError.
	Lease(ctx context.Context, shard Shard, room Room, d time.Duration) ([]Lease, error)
	// Renew prolongs leases of one shard by d from now, and returns those that are lost.
	Renew(ctx context.Context, shard Shard, leases []Lease, d time.Duration) (lost []Lease, err error)
	// MarkSent is the write-ahead mark: from here on the service may have seen
	// the task. A lease that is not repeatable makes its task so for good; one that
	// the service may have seen by then is UNCERTAIN, and not marked: ErrFenced.
	// ErrFenced also when it was cancelled meanwhile.
	MarkSent(ctx context.Context, lease Lease) error
	// Settle ends the task with its answer: SUCCEEDED or FAILED. The first
	// settle wins. ErrFenced.
	Settle(ctx context.Context, lease Lease, answer *momv1.Answer) error
	// Release gives an unseen task back to the head of its queue; no attempt is
	// spent and the mark is taken off. It expires when its TTL is over. ErrFenced.
	Release(ctx context.Context, lease Lease) error
	// PutBack lets an unseen task wait before its next attempt: RETRYING, with no
	// attempt spent and no mark. With all, nothing is leased from its shard for as
	// long, and the task comes a moment later, so that another may be the first. Else
	// it waits twice as long each time it is put back, up to a bound. Returns how
	// long it waits. EXPIRED when its TTL is over. ErrFenced.
	PutBack(ctx context.Context, lease Lease, why string, wait time.Duration, all bool) (time.Duration, error)
	// PassOver lets a task wait that cannot be sent as it is, with no attempt spent and
	// no mark: RETRYING, the first time for the given wait, twice as long each time, up
	// to 128 times. DEAD when its TTL is over, and at once when wait is 0, since it can
	// never be sent. Returns how long it waits; a MOM that starts ends the wait, since it
	// may know more. ErrFenced.
	PassOver(ctx context.Context, lease Lease, why string, wait time.Duration) (time.Duration, error)
	// Retry spends an attempt: RETRYING after the backoff, at the head of the
	// queue then, DEAD once maxAttempts are spent, or EXPIRED when the TTL is
	// over meanwhile. Returns the state. ErrFenced.
	Retry(ctx context.Context, lease Lease, failure string, backoff time.Duration, maxAttempts int) (momv1.TaskState, error)
	// Park ends the lease of an unrepeatable task that may have run: UNCERTAIN. ErrFenced.
	Park(ctx context.Context, lease Lease, failure string) error

	// Cancel cancels a task that was never sent, and dismisses one that is DEAD or
	// UNCERTAIN. Any other task with an attempt behind it may have run:
	// ErrTaskState. Cancelling a cancelled one succeeds. ErrNotFound.
	Cancel(ctx context.Context, id contract.TaskID) error
	// Keep keeps tasks of one shard, whose callers get handles, from being
	// abandoned. It returns those that do not exist or were cancelled before.
	Keep(ctx context.Context, shard Shard, ids []contract.TaskID) (missing []contract.TaskID, err error)
	// Abandon cancels tasks of one shard whose callers left without a handle, as
	// far as they were never sent and are not kept. It goes in batches: after an
	// error some may be cancelled. Its cost does not grow with the queue.
	Abandon(ctx context.Context, shard Shard, left []Departure) error
	// Dismiss ends the wait of a DEAD or UNCERTAIN task for a person: its call is
	// dropped, its state stays until its record expires. Dismissing a dismissed one
	// succeeds. ErrNotFound, ErrTaskState.
	Dismiss(ctx context.Context, id contract.TaskID) error
	// Revive puts a DEAD or UNCERTAIN task back to the tail of its queue, as
	// if new. ErrNotFound, ErrTaskState, ErrCallDropped.
	Revive(ctx context.Context, id contract.TaskID) error
	// ReviveDead revives all DEAD tasks of a shard, and the UNCERTAIN ones if
	// asked to. Returns their number.
	ReviveDead(ctx context.Context, shard Shard, uncertain bool) (int64, error)

	// Restore parks the tasks of a shard that may have run after the backup was made from which
	// the store was restored: those that are not repeatable and were stored before it was started
	// become UNCERTAIN. Returns their number; after an error, of those that did.
	Restore(ctx context.Context, shard Shard) (int64, error)

	// Reap does what is due in a shard: expires tasks whose TTL is over, puts
	// due RETRYING tasks and those of ended leases back to the head of the
	// queue (UNCERTAIN when marked and not repeatable) and rings the bell. The
	// store's clock may jump: a lease ends when its time is over and this process
	// has waited in vain, by its own clock, for its holder to renew it. Parked
	// tasks are given up when they have waited for as long as they may, the oldest
	// also when their calls take more room than they may: the call is dropped, the
	// state stays until the record expires. It returns the time until something is
	// next due, a minute at most while tasks wait, since a bell may be lost.
	Reap(ctx context.Context, shard Shard) (Reaped, error)
	// Depth counts a shard.
	Depth(ctx context.Context, shard Shard) (Depth, error)
	// Pause stops or starts leasing in a shard; starting rings the bell.
	Pause(ctx context.Context, shard Shard, paused bool) error
	// Limit limits leasing in a shard, for all who lease; it rings the bell. What was leased
	// under a rate counts under the next: to set one again changes nothing.
	Limit(ctx context.Context, shard Shard, limits Limits) error

	// WaitBell blocks until the shard's bell rings or ctx ends, whose error it returns. It rings
	// in every process that watches the shard, when a task is queued, when replay may go on,
	// and whenever a Watch connects; it may ring for nothing. One that rang before the call is
	// heard, by one call. Nothing rings without a Watch.
	WaitBell(ctx context.Context, shard Shard) error
	// Watch calls changed for each transition of a task after it was stored,
	// and resync whenever transitions may have been missed (after each
	// connect). It blocks until ctx ends and reconnects by itself. Both are
	// called one at a time; while they run, no transition is read.
	Watch(ctx context.Context, shards []Shard, changed func(contract.TaskID, momv1.TaskState), resync func()) error

	// Numbering returns the number of shards of a service. A service without one
	// gets the first, unless that is 0: ErrNotFound. What Renumber has begun, at
	// whichever MOM, is ended before.
	Numbering(ctx context.Context, service string, first int) (Numbering, error)
	// Renumber changes the number of shards of a service. From then on, new tasks
	// are placed by it; those that are there stay where they are. After an error
	// the change may have begun: it ends when it is repeated, or with Numbering.
	Renumber(ctx context.Context, service string, shards int) (Numbering, error)
	// Services lists the services that Register was told of, each with an epoch.
	Services(ctx context.Context) (epochs map[string]int64, err error)
	// Register makes Services list these services. An epoch that is not that of the
	// Numbering tells other MOMs to read it again.
	Register(ctx context.Context, epochs map[string]int64) error
	// KeepSchema keeps a schema under a name, longer than a record that names it may live
	// from now on. The same name has the same bytes.
	KeepSchema(ctx context.Context, name string, raw []byte) error
	// Schema reads what KeepSchema has kept. ErrNotFound.
	Schema(ctx context.Context, name string) ([]byte, error)

	// Check says why the store cannot be trusted with tasks now; nil: it can.
	// ErrStoreLost, once; the next Check takes the store as it is.
	Check(ctx context.Context) error
	// Durability tells what the last Check has found out about a crash of the store.
	Durability() Durability
	// Doubts is received from when the store has refused something, so that another
	// Check is due.
	Doubts() <-chan struct{}
}
