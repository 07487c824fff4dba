package redisstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/rueidis"
)

// Services implements mom.Store. The release before kept no list of services, so a store without
// one is searched for services, once.
func (s *Store) Services(ctx context.Context) (map[string]int64, error) {
	members, err := query(ctx, s, s.link.shares.upkeep, func(ctx context.Context, client rueidis.Client) ([]rueidis.ZScore, error) {
		members, err := client.Do(ctx, client.B().Zrange().Key(servicesKey(s.cfg.Prefix)).Min("0").Max("-1").Withscores().Build()).AsZScores()
		return members, s.judge(err)
	})
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	epochs := make(map[string]int64, len(members))
	for _, m := range members {
		epochs[m.Member] = int64(m.Score)
	}
	if len(epochs) > 0 {
		return epochs, nil
	}
	if err := s.search(ctx, epochs); err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	return epochs, s.Register(ctx, epochs)
}

// Register implements mom.Store.
func (s *Store) Register(ctx context.Context, epochs map[string]int64) error {
	if len(epochs) == 0 {
		return nil
	}
	err := s.command(ctx, s.link.shares.upkeep, func(ctx context.Context, client rueidis.Client) error {
		add := client.B().Zadd().Key(servicesKey(s.cfg.Prefix)).ScoreMember()
		for service, epoch := range epochs {
			add = add.ScoreMember(float64(epoch), service)
		}
		return s.judge(client.Do(ctx, add.Build()).Error())
	})
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	return nil
}

// globs escapes the characters that SCAN would take for a pattern.
var globs = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// searchBatch is how many keys one step of a search looks at.
const searchBatch = 1000

// search finds services by their numbers of shards, on all nodes.
func (s *Store) search(ctx context.Context, found map[string]int64) error {
	client, err := s.link.get()
	if err != nil {
		return err
	}
	const name = "\x00" // no prefix contains it
	before, after, _ := strings.Cut(shardCountKey(s.cfg.Prefix, name), name)
	for _, node := range client.Nodes() {
		for cursor, more := uint64(0), true; more; more = cursor != 0 {
			page, err := query(ctx, s, s.link.shares.upkeep, func(ctx context.Context, _ rueidis.Client) (rueidis.ScanEntry, error) {
				page, err := node.Do(ctx, node.B().Scan().Cursor(cursor).Match(globs.Replace(before)+"*"+after).Count(searchBatch).Build()).AsScanEntry()
				if refused, ok := rueidis.IsRedisErr(err); ok && strings.HasPrefix(refused.Error(), "NOPERM") {
					s.log.Warn("redis does not allow SCAN: queues of routes that were removed under an older release are not found", "error", err)
					page, err = rueidis.ScanEntry{}, nil
				}
				return page, s.judge(err)
			})
			if err != nil {
				return err
			}
			for _, key := range page.Elements {
				found[strings.TrimSuffix(strings.TrimPrefix(key, before), after)] = 0
			}
			cursor = page.Cursor
		}
	}
	return nil
}
