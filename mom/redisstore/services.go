package redisstore

import (
	"context"
	"fmt"

	"github.com/redis/rueidis"
)

// Services implements mom.Store.
func (s *Store) Services(ctx context.Context) (map[string]int64, error) {
	epochs := map[string]int64{}
	err := s.use(ctx, s.link.shares.upkeep, func(ctx context.Context, client rueidis.Client) error {
		members, err := client.Do(ctx, client.B().Zrange().Key(servicesKey(s.cfg.Prefix)).Min("0").Max("-1").Withscores().Build()).AsZScores()
		for _, m := range members {
			epochs[m.Member] = int64(m.Score)
		}
		return s.judge(err)
	})
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	return epochs, nil
}

// Register implements mom.Store.
func (s *Store) Register(ctx context.Context, epochs map[string]int64) error {
	if len(epochs) == 0 {
		return nil
	}
	err := s.use(ctx, s.link.shares.upkeep, func(ctx context.Context, client rueidis.Client) error {
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
