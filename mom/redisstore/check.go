package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"holdline/mom"
)

// Check implements mom.Store. Redis must not evict keys: a task that was
// evicted is a lost call. Without an append-only file it can be trusted no
// further than its last snapshot, which is the operator's choice and logged
// once for each run of the server.
func (s *Store) Check(ctx context.Context, shards map[string]int) error {
	if err := s.checkServers(ctx); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	var errs []error
	for _, service := range slices.Sorted(maps.Keys(shards)) {
		if err := s.claimShards(ctx, service, shards[service]); err != nil {
			errs = append(errs, fmt.Errorf("check: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (s *Store) checkServers(ctx context.Context) error {
	return s.use(ctx, func(ctx context.Context, client rueidis.Client) error {
		infos, err := infoOfAll(ctx, client)
		if err != nil && (!s.cfg.Cluster || len(infos) == 0) {
			return err
		}
		// What a node of a cluster has while it is away fails by itself; the
		// others need not wait for it.
		for _, info := range infos {
			if s.cfg.Embedded {
				continue
			}
			s.setFlavour(info)
			if info["loading"] == "1" { // it does not know its own settings yet
				return fmt.Errorf("%w: %w: redis: it reads its files", mom.ErrUnavailable, mom.ErrNotSent)
			}
			if policy, ok := info["maxmemory_policy"]; ok && policy != "noeviction" {
				return fmt.Errorf("redis: maxmemory-policy is %s, must be noeviction", policy)
			}
			if info["aof_enabled"] == "0" {
				s.warnOnce(info["run_id"])
			}
		}
		return nil
	})
}

// infoOfAll reads the INFO of all nodes that answer, and says why one does not.
func infoOfAll(ctx context.Context, client rueidis.Client) (infos []map[string]string, err error) {
	if deadline, ok := ctx.Deadline(); ok {
		// Half the time for those that are silent, half for what comes next.
		bounded, cancel := context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
		ctx = bounded
	}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, node := range client.Nodes() {
		asking.Go(func() {
			info, nodeErr := serverInfo(ctx, node)
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

func (s *Store) warnOnce(run string) {
	if _, before := s.warned.LoadOrStore(run, true); !before {
		s.log.Warn("redis has no append-only file: tasks accepted since its last snapshot die with it")
	}
}

// claimShards makes n the number of shards of a service, or fails when it has
// another. Reads first, so that it works on a Redis at maxmemory.
func (s *Store) claimShards(ctx context.Context, service string, n int) error {
	key, want := shardCountKey(s.cfg.Prefix, service), strconv.Itoa(max(n, 1))
	var have string
	err := s.use(ctx, func(ctx context.Context, client rueidis.Client) error {
		get := func() (err error) {
			have, err = client.Do(ctx, client.B().Get().Key(key).Build()).ToString()
			return redisError(err)
		}
		if err := get(); err != nil || have != "" {
			return err
		}
		if err := redisError(client.Do(ctx, client.B().Set().Key(key).Value(want).Nx().Build()).Error()); err != nil {
			return err
		}
		return get()
	})
	if err != nil {
		return err
	}
	if have != want {
		return fmt.Errorf("%s has %s shards in this redis, not %s: tasks of another number would not be found", service, have, want)
	}
	return nil
}

// serverInfo reads INFO. miniredis knows a few fields only.
func serverInfo(ctx context.Context, client rueidis.Client) (map[string]string, error) {
	text, err := client.Do(ctx, client.B().Info().Build()).ToString()
	if err != nil {
		return nil, redisError(err)
	}
	info := make(map[string]string)
	for line := range strings.SplitSeq(text, "\r\n") {
		if field, value, ok := strings.Cut(line, ":"); ok {
			info[field] = value
		}
	}
	if info["loading"] == "1" { // the rest of it is not true yet
		return nil, fmt.Errorf("%w: %w: redis: LOADING", mom.ErrUnavailable, mom.ErrNotSent)
	}
	return info, nil
}

func major(version string) int {
	first, _, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(first) // 0 for a server that does not say
	return n
}
