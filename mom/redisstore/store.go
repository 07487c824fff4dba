// Package redisstore keeps tasks in Redis. Queues are lists, answers are strings with an expiry,
// and each transition is one Lua script, so that it happens completely or not at all. keys.go
// names every key, scripts/ has every transition, run.go runs the scripts, and link.go connects
// to Redis.
package redisstore

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"holdline/internal/logonce"
	"holdline/mom"
)

var _ mom.Store = (*Store)(nil)

// Defaults of a Config.
const (
	DefaultTombstoneTTL = 24 * time.Hour
	DefaultMaxQueued    = 100_000
	DefaultMaxBytes     = 256 << 20
	DefaultParkedTTL    = 30 * 24 * time.Hour
)

// Config says which Redis to use and how. Only URL is needed.
type Config struct {
	// URL is redis://[user:password@]host:port[/db], rediss://… with TLS, or unix:///path[?db=n].
	// For a cluster or for sentinels it may name several hosts, separated by commas.
	URL string
	// Password, if given, is used in place of the URL's.
	Password string
	// ReadPassword, if given, is called for the password at each new connection, so that a
	// rotated one is used. With sentinels, Open calls it once: rueidis would otherwise send
	// this password to the sentinels, too.
	ReadPassword func() (string, error)
	// Cluster: URL names nodes of a Redis Cluster. Otherwise the server is used as a single one,
	// even if it is part of a cluster.
	Cluster bool
	// SentinelMaster: URL names Redis Sentinels, and this is the name by which
	// they know the master. User, password and database are the master's.
	SentinelMaster string
	// Embedded: the server is a miniredis. Open says what that changes.
	Embedded bool
	// Prefix begins every key, so that several stores can share a server.
	Prefix string

	// TombstoneTTL is how long a record is kept after its task has ended and
	// its answer has expired. Default DefaultTombstoneTTL.
	TombstoneTTL time.Duration
	// MaxQueued is how many open tasks a shard may hold. Default DefaultMaxQueued.
	MaxQueued int
	// MaxBytes is how many bytes the calls of a shard may take together, without
	// those of parked tasks. Default DefaultMaxBytes.
	MaxBytes int64
	// ParkedTTL is how long a DEAD or UNCERTAIN task waits for a person. Then its
	// call is dropped, and its record is kept for TombstoneTTL. Default
	// DefaultParkedTTL.
	ParkedTTL time.Duration
	// MaxParkedBytes is how many bytes the calls of a shard's parked tasks may take
	// together. With more, the oldest of these tasks end as if their ParkedTTL was
	// over. Default MaxBytes.
	MaxParkedBytes int64

	// LeaseGrace is how long this process watches a lease near its end, by its own clock, before
	// it ends the lease. It must be longer than holders take to renew their leases. Default 4 s.
	LeaseGrace time.Duration

	// CommandTimeout bounds every command whose context has no earlier
	// deadline, except reads of large answers. Default 400 ms: a hand-off has 500 ms to fail in.
	CommandTimeout time.Duration
	// DialTimeout bounds a new connection, with its greeting. Default 300 ms.
	DialTimeout time.Duration

	// Logger logs facts that no caller gets. Default slog.Default().
	Logger *slog.Logger
}

// Store is a mom.Store on Redis.
type Store struct {
	cfg    Config
	log    *slog.Logger
	once   *logonce.Logger
	link   *link
	shards sync.Map // mom.Shard → *shardKeys

	// Separate, so that callers who leave do not wait for tasks that expire.
	reaps, requests bulk

	doubts  chan struct{}
	granted atomic.Bool            // our user may call all commands of the scripts, as far as is known
	barred  atomic.Bool            // our user may not, or that is not known yet: see permitted
	asking  singleflight.Group     // of the questions for our user's rights
	unsaved atomic.Int64           // changes that are in no file; negative: every change is in a file
	name    atomic.Pointer[string] // the name of the store; nil until it was read

	flagged atomic.Pointer[bool] // whether the server understands the flags of scripts; nil until it was asked
	// memoryLook is how long Adds use the result of the last look at the server's memory.
	memoryLook time.Duration
	warned     sync.Map // warnings that were logged and still hold, by kind and run_id of a server
}

// Open returns a store. It fails only for a bad Config. If Redis is down, the store connects when
// Redis comes, and until then calls fail with mom.ErrUnavailable. Close the store when done.
func Open(cfg Config) (*Store, error) {
	cfg.TombstoneTTL = cmp.Or(cfg.TombstoneTTL, DefaultTombstoneTTL)
	cfg.MaxQueued = cmp.Or(cfg.MaxQueued, DefaultMaxQueued)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, DefaultMaxBytes)
	cfg.ParkedTTL = cmp.Or(cfg.ParkedTTL, DefaultParkedTTL)
	cfg.MaxParkedBytes = cmp.Or(cfg.MaxParkedBytes, cfg.MaxBytes)
	cfg.LeaseGrace = cmp.Or(cfg.LeaseGrace, 4*time.Second)
	cfg.CommandTimeout = cmp.Or(cfg.CommandTimeout, 400*time.Millisecond)
	cfg.DialTimeout = cmp.Or(cfg.DialTimeout, 300*time.Millisecond)
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	if cfg.TombstoneTTL < 0 || cfg.MaxQueued < 0 || cfg.MaxBytes < 0 || cfg.ParkedTTL < 0 || cfg.MaxParkedBytes < 0 || cfg.LeaseGrace < 0 || cfg.CommandTimeout < 0 || cfg.DialTimeout < 0 {
		return nil, errors.New("redis store: a limit is negative")
	}
	option, err := clientOption(cfg)
	if err != nil {
		return nil, fmt.Errorf("redis store: %w", err)
	}
	s := &Store{cfg: cfg, log: cfg.Logger, once: logonce.New(cfg.Logger), memoryLook: memoryLook, doubts: make(chan struct{}, 1)}
	s.unsaved.Store(-1)
	s.barred.Store(true)
	if cfg.Embedded {
		// A miniredis does not speak RESP3. Its INFO has nothing about memory, so no Add looks. It
		// does not report its version either, so it gets the scripts for servers before Redis 7.
		option.AlwaysRESP2, s.memoryLook = true, math.MaxInt64
	}
	if s.link, err = newLink(option, cfg.CommandTimeout); err != nil {
		return nil, fmt.Errorf("redis store: %w", err)
	}
	return s, nil
}

// Close ends all connections. Calls that run, and later ones, fail with
// mom.ErrUnavailable. Closing twice is harmless.
func (s *Store) Close() { s.link.close() }
