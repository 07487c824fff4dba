package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"holdline/mom"
)

// Check implements mom.Store. Redis must not evict keys: an evicted task is a lost call. A Redis
// without an append-only file loses, when it dies, what came after its last snapshot. That is the
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

// Doubts implements mom.Store.
func (s *Store) Doubts() <-chan struct{} { return s.doubts }

func (s *Store) doubt() {
	select {
	case s.doubts <- struct{}{}:
	default: // there is one already
	}
}

func (s *Store) checkServers(ctx context.Context) error {
	return s.command(ctx, s.link.shares.upkeep, func(ctx context.Context, client rueidis.Client) error {
		infos, err := s.infoOfAll(ctx, client)
		if err != nil && (!s.cfg.Cluster || len(infos) == 0) {
			return err
		}
		// While a node of a cluster is down, commands for its shards fail by themselves. This
		// check goes on with the nodes that answer.
		s.unsaved.Store(unsaved(infos))
		for _, info := range infos {
			s.setFlagged(info)
			if err := s.checkServer(info); err != nil {
				return err
			}
		}
		if err := s.checkScripts(ctx, client); err != nil {
			return err
		}
		return s.checkTexts(ctx, client)
	})
}

// checkScripts finds a server that cannot run Lua, which every transition needs: it has no Lua engine,
// or the commands were renamed. Once all servers have run a script, it does not ask again.
func (s *Store) checkScripts(ctx context.Context, client rueidis.Client) error {
	if s.runsLua.Load() {
		return nil
	}
	for _, node := range client.Nodes() {
		err := node.Do(ctx, node.B().Eval().Script("return 1").Numkeys(0).Build()).Error()
		switch reply, refused := rueidis.IsRedisErr(err); {
		case refused && noLua.MatchString(reply.Error()):
			return notSent(fmt.Errorf("it runs no Lua scripts, and must: Redis has them, and Valkey with its Lua engine: %w", err))
		case err != nil && !refused && !s.cfg.Cluster:
			return s.judge(err)
		case err != nil:
			return nil //nolint:nilerr // the first script gets the same error
		}
	}
	s.runsLua.Store(true)
	return nil
}

// noLua matches the error of Redis for an unknown command, and that of Valkey for a missing engine.
var noLua = regexp.MustCompile(`(?i)unknown command|unknown redis command|scripting engine`)

// largestText is larger than any text that we send to Redis, in bytes. The largest is an answer
// with its headers and trailers.
const largestText = 8 << 20

// checkTexts finds a server that does not accept texts of this size: it would close the connection at
// the first one, and all commands on it would fail. GETBIT has the same limit, and needs no memory.
func (s *Store) checkTexts(ctx context.Context, client rueidis.Client) error {
	for _, node := range client.Nodes() {
		err := node.Do(ctx, node.B().Getbit().Key(storeNameKey(s.cfg.Prefix)).Offset(8*(largestText-1)).Build()).Error()
		reply, ok := rueidis.IsRedisErr(err)
		switch {
		case ok && strings.Contains(reply.Error(), "bit offset"):
			return fmt.Errorf("redis: proto-max-bulk-len must be %d or more", largestText)
		case err != nil && !ok && !s.cfg.Cluster:
			return s.judge(err)
		}
		// Another refusal says nothing about texts: the user lacks the right, or another node has the key.
	}
	return nil
}

// checkServer looks at the INFO of a server.
func (s *Store) checkServer(info map[string]string) error {
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

// unsaved counts the changes since the last snapshot of each server that has no append-only file.
// It is negative when all servers have one.
func unsaved(infos []map[string]string) int64 {
	sum := int64(-1)
	for _, info := range infos {
		if info["aof_enabled"] == "0" {
			changes, _ := strconv.ParseInt(info["rdb_changes_since_last_save"], 10, 64)
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

// infoOfAll reads the INFO of all nodes that answer, and returns the error of one that does not.
func (s *Store) infoOfAll(ctx context.Context, client rueidis.Client) (infos []map[string]string, err error) {
	// Silent nodes get half of the command's time. The other half is left to use what the others answer.
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CommandTimeout/2)
	defer cancel()
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, node := range client.Nodes() {
		asking.Go(func() {
			info, nodeErr := s.serverInfo(ctx, node)
			mu.Lock()
			defer mu.Unlock()
			if nodeErr != nil {
				err = nodeErr
				return
			}
			infos = append(infos, info)
		})
	}
	asking.Wait()
	return infos, err
}

// serverInfo reads INFO.
func (s *Store) serverInfo(ctx context.Context, client rueidis.Client) (map[string]string, error) {
	text, err := client.Do(ctx, client.B().Info().Build()).ToString()
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
