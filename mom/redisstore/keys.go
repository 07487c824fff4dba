package redisstore

import (
	"strconv"
	"sync/atomic"

	"github.com/oklog/ulid/v2"

	"holdline/internal/contract"
	"holdline/mom"
)

// All keys of a shard begin with hl:{package.Service#shard}: and so share a
// slot of a Redis Cluster. After it, for the whole shard:
//
//	ready   list        ULIDs, first in, first out
//	dead    list        ULIDs that are DEAD or UNCERTAIN and wait for a person
//	bell    string      exists while tasks are queued and all MOMs were notified of them
//	stir    string      exists for a second after a transition was published that nobody waits for
//	ended:<state>  string  how many tasks have reached this final state
//	lease   sorted set  ULIDs by the end of their lease: what is in flight
//	later   sorted set  ULIDs by the time their next attempt is due
//	ttl     sorted set  open ULIDs by the end of their life; its size is the
//	                    number of open tasks
//	paused  string      exists while leasing is stopped
//	wait    string      the time until which the service has asked to get no calls, in ms
//	asked   string      the time at which it has asked for that, in ms
//	gone    sorted set  "ULID caller" of ended tasks by the time their record expires
//	passed  string      how many ended tasks are still in ready, to be skipped
//	bytes   string      size of the stored calls, in bytes
//	holes   string      how many places in dead are holes: see shared/unpark.lua
//	parked  string      size of the calls of the tasks in dead, in bytes; bytes counts them too
//	uncertain  string   how many tasks in dead are UNCERTAIN
//	limits  hash        of leases: c at once, r a second; b tokens in the bucket at the time a
//	numbering  string   the epoch of the number of shards by which new tasks are
//	                    placed here; missing until the number is first changed
//
// and for one task, key or caller:
//
//	t:<ulid>    hash        the record; shared/core.lua lists its fields
//	p:<ulid>    string      the call
//	a:<ulid>    string      the answer
//	i:<hash>    string      "ULID fingerprint" of an idempotency key
//	c:<caller>  sorted set  the caller's ULIDs, all with score 0
//
// Transitions that somebody waits for are published on the channel events. "bell" is published there when replay may go on without a transition.
// Outside the shards, hl:shards:{package.Service} is the number of shards with its changes, see
// numbering.go; hl:services is a sorted set of all services, by the epochs of their numbers; hl:store
// is the name of the store, which is lost together with the tasks; and hl:schema:<hash> is a schema with
// which stored requests were read.
type shardKeys struct {
	shard  mom.Shard
	base   string // the beginning of every key of the shard
	memory memory // memory of the server that has these keys
	// counted: the key parked counts all tasks that an older release has parked.
	counted atomic.Bool
	more    atomic.Bool // the last Reap has left something to do
	// Numbers of due tasks in ttl and in later that the next Reap skips: only a newer release can read them.
	fromTTL, fromLater atomic.Int64
	leases             leaseWatch // as this process sees them
	all                []string   // KEYS of every script, in the order of shared/core.lua
	bell               bell
	shares             shares // used in a cluster only, see sharesOf
	turns              turns
}

func (s *Store) newShardKeys(shard mom.Shard) *shardKeys {
	base := s.cfg.Prefix + "hl:{" + shard.Service + "#" + strconv.Itoa(shard.Index) + "}:"
	k := &shardKeys{shard: shard, base: base, bell: newBell(), shares: newShares(s.cfg.CommandTimeout), all: []string{
		base + "ready", base + "dead", base + "bell", base + "lease",
		base + "later", base + "ttl", base + "paused", base + "gone",
	}}
	if s.cfg.Cluster {
		// A key that never exists. While the slot moves to another node, Redis refuses a script before it begins if one of
		// its keys is missing. If all its keys were there, the script would fail midway, at the key of a task that has already moved.
		k.all = append(k.all, base+"none")
	}
	k.turns.store, k.turns.keys = s, k
	return k
}

// tasksAmong returns the ids of the tasks that are named in the arguments of a script.
func (k *shardKeys) tasksAmong(argv ...string) (ids []string) {
	for _, arg := range argv {
		if name, err := ulid.ParseStrict(arg); err == nil {
			ids = append(ids, contract.TaskID{Service: k.shard.Service, Shard: k.shard.Index, ULID: name}.String())
		}
	}
	return ids
}

func (k *shardKeys) events() string               { return k.base + "events" }
func (k *shardKeys) task(ulid string) string      { return k.base + "t:" + ulid }
func (k *shardKeys) answer(ulid string) string    { return k.base + "a:" + ulid }
func (k *shardKeys) callers(caller string) string { return k.base + "c:" + caller }

func storeNameKey(prefix string) string { return prefix + "hl:store" }

func servicesKey(prefix string) string { return prefix + "hl:services" }

func schemaKey(prefix, name string) string { return prefix + "hl:schema:" + name }

func shardCountKey(prefix, service string) string {
	return prefix + "hl:shards:{" + service + "}"
}

// keys returns the keys of a shard. There are few shards and many calls, so
// they are built once.
func (s *Store) keys(shard mom.Shard) *shardKeys {
	if k, ok := s.shards.Load(shard); ok {
		return k.(*shardKeys)
	}
	first, _ := s.shards.LoadOrStore(shard, s.newShardKeys(shard))
	return first.(*shardKeys)
}

func (s *Store) keysOf(id contract.TaskID) *shardKeys { return s.keys(mom.ShardOf(id)) }
