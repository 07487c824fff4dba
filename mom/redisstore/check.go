package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"holdline/mom"
)

// Check implements mom.Store. Redis must not evict keys: an evicted task is a lost call. A Redis
// without an append-only file loses, when it dies, all changes after its last snapshot. That is the
// operator's choice; Check logs it once for each run of the server.
func (s *Store) Check(ctx context.Context) error {
	err := s.checkServers(ctx)
	if errors.Is(err, mom.ErrUnavailable) {
		return fmt.Errorf("check: %w", err)
	}
	// After another error the name is checked too: a server with wrong settings may have lost tasks.
	if err := errors.Join(err, s.checkName(ctx)); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	return nil
}

// checkName finds out whether this is still the same store. The store's name is a key in it: an
// emptied store has lost its name, and another Redis has another name.
func (s *Store) checkName(ctx context.Context) error {
	name, err := s.alone(ctx, identifyScript, storeNameKey(s.cfg.Prefix), args{"new_name": rand.Text()})
	if err != nil {
		if s.cfg.Cluster && s.name.Load() != nil && errors.Is(err, mom.ErrUnavailable) {
			return nil // the node that has the name is away; the others need not wait for it
		}
		return err
	}
	if was := s.name.Swap(&name); was != nil && *was != name {
		return mom.ErrStoreLost
	}
	return nil
}

// Name implements mom.Store.
func (s *Store) Name() string {
	if name := s.name.Load(); name != nil {
		return *name
	}
	return ""
}

// Doubts implements mom.Store.
func (s *Store) Doubts() <-chan struct{} { return s.doubts }

// doubt asks for a Check.
func (s *Store) doubt() {
	s.granted.Store(false)
	select {
	case s.doubts <- struct{}{}:
	default: // a Check is due already
	}
}

// server has the answers of a server about itself.
type server struct {
	info     map[string]string
	rights   bool   // the server was asked for the rights of our user
	denied   string // commands that our user may not call, or that were renamed
	lua, key error  // why it refused a script, and a read of a large string
}

func (s *Store) checkServers(ctx context.Context) error {
	return s.command(ctx, s.link.shares.upkeep, func(ctx context.Context, client rueidis.Client) error {
		servers, err := s.lookAtAll(ctx, client)
		if err != nil && (!s.cfg.Cluster || len(servers) == 0) {
			return err
		}
		// While a node of a cluster is down or silent, commands for its shards fail by themselves. This
		// check goes on with the nodes that answer.
		s.unsaved.Store(unsaved(servers))
		down := 0
		for _, one := range servers {
			s.setFlagged(one.info)
			if err := s.checkServer(one); err != nil {
				return err
			}
			if one.key != nil && strings.HasPrefix(one.key.Error(), "CLUSTERDOWN The cluster is down") {
				down++
			}
		}
		if down > 0 && down == len(servers) {
			return s.judge(servers[0].key)
		}
		if err == nil && len(servers) > 0 && servers[0].rights {
			s.granted.Store(true)
		}
		return nil
	})
}

// noLua matches the error of Redis for an unknown command, and that of Valkey for a missing engine.
var noLua = regexp.MustCompile(`(?i)unknown command|unknown redis command|scripting engine`)

// largestText is larger than any string that we send to Redis, in bytes. The largest is an answer
// with its headers and trailers.
const largestText = 8 << 20

// checkServer returns an error if a server cannot be used.
func (s *Store) checkServer(one server) error {
	info := one.info
	if policy, ok := info["maxmemory_policy"]; ok && policy != "noeviction" {
		return fmt.Errorf("redis: maxmemory-policy is %s, must be noeviction", policy)
	}
	if info["role"] == "slave" && !s.cfg.Cluster {
		s.link.cutOff() // its address may now belong to the new master
		return notSent(errors.New("this server is a replica, and takes no writes"))
	}
	if info["aof_last_write_status"] == "err" {
		return notSent(errors.New("it cannot write its append-only file"))
	}
	if one.lua != nil && noLua.MatchString(one.lua.Error()) {
		return notSent(fmt.Errorf("it runs no Lua scripts, and must: Redis has them, and Valkey with its Lua engine: %w", one.lua))
	}
	if err := one.deniedError(); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	// Another refusal shows nothing about large strings: the user lacks the right, or another node has the key.
	if one.key != nil && strings.Contains(one.key.Error(), "bit offset") {
		return fmt.Errorf("redis: proto-max-bulk-len must be %d or more", largestText)
	}
	run := info["run_id"]
	s.warnWhile(info["aof_enabled"] == "0", "file "+run,
		"redis has no append-only file: when it dies, tasks accepted since its last snapshot are lost, and those that have ended since run again",
		"last_snapshot", snapshotAge(info), "changes_since", info["rdb_changes_since_last_save"])
	used, _ := strconv.ParseFloat(info["used_memory"], 64)
	limit, _ := strconv.ParseFloat(info["maxmemory"], 64)
	s.warnWhile(limit > 0 && used > 0.8*limit, "memory "+run, "redis is nearly full: new tasks are refused",
		"used_memory", info["used_memory"], "maxmemory", info["maxmemory"])
	return nil
}

// deniedError names the commands that our user may not call on a server.
func (one server) deniedError() error {
	switch {
	case one.lua != nil && strings.HasPrefix(one.lua.Error(), "NOPERM"):
		return fmt.Errorf("its user may not run scripts: %w", one.lua)
	case one.denied != "":
		return fmt.Errorf("its user may not call, with our keys and channels, or it has under another name, what transitions need: %s", one.denied)
	}
	return nil
}

// permitted finds out whether our user may call all commands that scripts call. It asks before the first script, and after a script has failed because a right was missing. We run
// no script without all rights: what a script has written before it fails would stay.
func (s *Store) permitted(ctx context.Context) error {
	if !s.barred.Load() {
		return nil
	}
	_, err, _ := s.asking.Do("", func() (any, error) {
		return nil, s.command(context.WithoutCancel(ctx), s.link.shares.upkeep, func(ctx context.Context, client rueidis.Client) error {
			servers, err := s.lookAtAll(ctx, client)
			for _, one := range servers {
				if err := one.deniedError(); err != nil {
					return notSent(err)
				}
			}
			if len(servers) == 0 {
				return notSent(err)
			}
			s.barred.Store(false) // scripts for shards on a silent node fail by themselves
			return nil
		})
	})
	return err
}

// unsaved counts the changes since the last snapshot of each server that has no append-only file.
// It is negative when all servers have one.
func unsaved(servers []server) int64 {
	sum := int64(-1)
	for _, one := range servers {
		if one.info["aof_enabled"] == "0" {
			changes, _ := strconv.ParseInt(one.info["rdb_changes_since_last_save"], 10, 64)
			sum = max(sum, 0) + changes
		}
	}
	return sum
}

// snapshotAge is the time since the last snapshot, or since the start of a server that made none.
func snapshotAge(info map[string]string) string {
	saved, _ := strconv.ParseInt(info["rdb_last_save_time"], 10, 64)
	return time.Since(time.Unix(saved, 0)).Round(time.Second).String()
}

// Durability implements mom.Store.
func (s *Store) Durability() mom.Durability {
	changes := s.unsaved.Load()
	return mom.Durability{Snapshots: changes >= 0, Unsaved: max(changes, 0)}
}

// warnWhile logs a warning once while something is wrong, and again if that ends and comes back.
func (s *Store) warnWhile(wrong bool, what, msg string, attrs ...any) {
	if !wrong {
		s.warned.Delete(what)
	} else if _, before := s.warned.LoadOrStore(what, true); !before {
		s.log.Warn(msg, attrs...)
	}
}

// lookAtAll asks all nodes at once, and returns those that answer and the error of one that does not.
func (s *Store) lookAtAll(ctx context.Context, client rueidis.Client) (servers []server, err error) {
	// Silent nodes get half of the command's time, so that there is a result before the command's time is over.
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CommandTimeout/2)
	defer cancel()
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, node := range client.Nodes() {
		asking.Go(func() {
			one, nodeErr := s.lookAt(ctx, node)
			mu.Lock()
			defer mu.Unlock()
			if nodeErr != nil {
				err = nodeErr
				return
			}
			servers = append(servers, one)
		})
	}
	asking.Wait()
	return servers, err
}

// lookAt asks a server, in one round trip, for everything that a Check needs. Each transition needs Lua: a server may have no engine for it, or the commands may be renamed.
// A command that the user may not call would end a transition midway, and what the transition wrote before would stay. So we ask for the user's rights. When all servers have
// confirmed them, we ask again only after a command was refused.
// A server that does not accept large strings would close the connection at the first one, and all commands on that connection would fail. So we try GETBIT, which has
// the same limit, and needs no memory.
func (s *Store) lookAt(ctx context.Context, node rueidis.Client) (one server, err error) {
	questions := rueidis.Commands{
		node.B().Info().Build(), node.B().Getbit().Key(storeNameKey(s.cfg.Prefix)).Offset(8 * (largestText - 1)).Build(),
	}
	if !s.granted.Load() {
		argv := s.wantedRights()
		one.rights = len(argv) > 1
		questions = append(questions, node.B().Eval().Script(rightsScript.plain.text).Numkeys(0).Arg(argv...).Build())
	}
	replies := node.DoMulti(ctx, questions...)
	for _, reply := range replies {
		if _, refused := rueidis.IsRedisErr(reply.Error()); reply.Error() != nil && !refused {
			return one, s.judge(reply.Error())
		}
	}
	if one.info, err = s.readInfo(replies[0]); err != nil {
		return one, err
	}
	one.key = replies[1].Error()
	if len(replies) == 2 {
		return one, nil
	}
	if one.lua = replies[2].Error(); one.lua == nil { // if the script was refused, the reply has the error
		one.denied, err = replies[2].ToString()
	}
	return one, err
}

// wantedRights returns the arguments of rightsScript. The key belongs to an existing shard: the user may have no right to other keys.
func (s *Store) wantedRights() (argv []string) {
	argv = []string{""}
	s.shards.Range(func(_, keys any) bool {
		argv = append([]string{keys.(*shardKeys).events()}, transitionCommands...)
		return false
	})
	return argv
}

// transitionCommands are the commands that scripts call.
var transitionCommands = func() (names []string) {
	for _, pattern := range []string{"scripts/*.lua", "scripts/shared/*.lua"} {
		files, _ := fs.Glob(sources, pattern) // the pattern is good
		for _, file := range files {
			text, _ := sources.ReadFile(file) // it is there
			for _, call := range calledCommands.FindAllSubmatch(text, -1) {
				names = append(names, string(call[1]))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}()

var calledCommands = regexp.MustCompile(`redis\.p?call\('([A-Z]+)'`)

// readInfo reads the reply to INFO.
func (s *Store) readInfo(reply rueidis.RedisResult) (map[string]string, error) {
	text, err := reply.ToString()
	if err != nil {
		return nil, s.judge(err)
	}
	info := make(map[string]string)
	for line := range strings.SplitSeq(text, "\r\n") {
		if field, value, ok := strings.Cut(line, ":"); ok {
			info[field] = value
		}
	}
	if info["loading"] == "1" { // its other fields are not true yet
		return nil, notSent(errors.New("LOADING"))
	}
	return info, nil
}
