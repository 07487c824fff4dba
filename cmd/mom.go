package cmd

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"holdline/internal/reload"
	"holdline/internal/route"
	"holdline/internal/server"
	"holdline/internal/stack"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// MOM is `holdline mom`.
type MOM struct {
	Listen       string        `default:"127.0.0.1:8090" help:"The address to listen on. Only gateways may reach it. Where gateways run on other machines, use :8090 and --mom-secret-file."`
	Redis        string        `required:"" placeholder:"URL" help:"The Redis or Valkey that keeps the tasks, such as redis://redis:6379, or rediss:// for TLS. Separate the hosts of a cluster, or several Sentinels, with commas."`
	PasswordFile string        `name:"redis-password-file" type:"existingfile" placeholder:"FILE" help:"A file with the password of that Redis, so that no command line shows it. The file is read again for each new connection, so that the password can be rotated. Behind Sentinels it is read once."`
	Cluster      bool          `name:"redis-cluster" help:"The Redis is a Redis Cluster."`
	Sentinel     string        `name:"redis-sentinel-master" placeholder:"NAME" help:"The name by which Redis Sentinels know the master. --redis then names the Sentinels."`
	AnswerTTL    time.Duration `default:"${answer_ttl}" help:"How long answers are kept when the caller does not say it. At most ${max_answer_ttl}."`
	TombstoneTTL time.Duration `default:"${tombstone_ttl}" help:"How long the record of a finished task is kept after its answer has expired."`
	MaxQueued    int           `default:"${max_queued}" help:"Maximum number of open tasks in one shard of a queue. A call beyond that is refused."`
	MaxBytes     int64         `default:"${max_bytes}" help:"Maximum size of all stored calls of one shard, in bytes. Those of dead and uncertain tasks do not count. A call beyond that is refused."`
	ParkedTTL    time.Duration `default:"${parked_ttl}" help:"How long dead and uncertain tasks wait for a person. Then their calls are dropped, and their states can still be read for --tombstone-ttl."`
	MaxParked    int64         `name:"max-parked-bytes" placeholder:"BYTES" help:"Maximum size of the calls of the dead and uncertain tasks of one shard, in bytes. Beyond that, the oldest of these calls are dropped before --parked-ttl is over. Default: as --max-bytes."`
	MaxHeld      int           `default:"${mom_max_held}" help:"Maximum number of callers that are held. A caller beyond that gets its handle at once."`
	Hold         bool          `help:"Store calls, but replay none, and let no task expire. Use this after Redis was restored from a backup, until you have looked at its tasks."`
	Shared
	Routing
	Limits
	Admin
	Metrics
	Logs
}

// Run serves until it is interrupted; then holds end with handles, attempts end,
// and leases are given up.
func (c *MOM) Run(ctx context.Context) error {
	economize(ctx)
	log, metrics := c.logger(), server.NewMetrics()
	files := reload.New(metrics, log)
	load := func() (route.Table, *route.Schemas, error) { return c.load(files.Read) }
	routes, schemas, err := load()
	if err != nil {
		return usage(err)
	}
	shared, err := c.secret(log)
	if err != nil {
		return usage(err)
	}
	node, err := stack.NewMOM(mom.Config{
		Routes: routes, Schemas: schemas, AnswerTTL: c.AnswerTTL, MaxHeld: c.MaxHeld, OnHold: c.Hold, Secret: shared, Engine: c.engine(), Metrics: metrics, Logger: log,
	}, redisstore.Config{
		URL: c.Redis, ReadPassword: c.readPassword(), Cluster: c.Cluster, SentinelMaster: c.Sentinel, TombstoneTTL: c.TombstoneTTL,
		MaxQueued: c.MaxQueued, MaxBytes: c.MaxBytes, ParkedTTL: c.ParkedTTL, MaxParkedBytes: c.MaxParked, Logger: log,
	}, server.Config{
		Addr: c.Listen, Logger: log, MetricsAddr: c.Metrics.Metrics, Metrics: metrics, AdminAddr: listenAt(c.Admin.Admin), Limits: c.limits(),
	})
	if err != nil {
		return err
	}
	if shared == nil && !server.Loopback(node.Addr()) {
		log.Warn("whoever reaches this MOM can store calls and read answers: give it and its gateways a --mom-secret-file", "address", node.Addr())
	}
	return (&follower{node, files, load, routes, log}).Run(ctx)
}

// readPassword reads the password's file anew each time; nil without one.
func (c *MOM) readPassword() func() (string, error) {
	if c.PasswordFile == "" {
		return nil
	}
	return func() (string, error) {
		raw, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("--redis-password-file: %w", err)
		}
		return strings.Trim(string(raw), " \t\r\n\v\f"), nil // as swarm/redis.sh does: other blanks belong to it
	}
}
