package redisstore

import (
	"context"
	"time"

	"github.com/redis/rueidis"

	"holdline/internal/contract"
	"holdline/mom"
)

// schemaSlack is how much longer a schema is kept than a record: MOMs may end, or the store may
// be down, when the schema is due to be kept again.
const schemaSlack = 7 * 24 * time.Hour

// longestRecord is how long the record of a task is kept at most, unless an operator retries the task.
func (s *Store) longestRecord() time.Duration {
	return contract.MaxTTL + max(contract.MaxAnswerTTL, s.cfg.ParkedTTL) + s.cfg.TombstoneTTL
}

// KeepSchema implements mom.Store.
func (s *Store) KeepSchema(ctx context.Context, name string, raw []byte) error {
	return s.command(ctx, s.link.shares.upkeep, func(ctx context.Context, client rueidis.Client) error {
		set := client.B().Set().Key(schemaKey(s.cfg.Prefix, name)).Value(rueidis.BinaryString(raw)).Px(s.longestRecord() + schemaSlack).Build()
		return s.judge(client.Do(ctx, set).Error())
	})
}

// Schema implements mom.Store.
func (s *Store) Schema(ctx context.Context, name string) ([]byte, error) {
	raw, err := query(ctx, s, s.link.shares.callers, func(ctx context.Context, client rueidis.Client) ([]byte, error) {
		raw, err := client.Do(ctx, client.B().Get().Key(schemaKey(s.cfg.Prefix, name)).Build()).AsBytes()
		return raw, s.judge(err)
	})
	switch {
	case err != nil:
		return nil, err
	case len(raw) == 0:
		return nil, mom.ErrNotFound
	}
	return raw, nil
}
