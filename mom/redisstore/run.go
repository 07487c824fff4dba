package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/rueidis"

	"holdline/mom"
)

// sharesOf returns the places of a shard. In a cluster it has its own: those of a node that is
// silent hold up no other node's.
func (s *Store) sharesOf(keys *shardKeys) shares {
	if s.cfg.Cluster {
		return keys.shares
	}
	return s.link.shares
}

// query calls fn with the client once there is a place, and waits for its end as long as ctx and
// the time of a command allow. Whoever leaves before there is a place takes the command along;
// after that it goes on, since Redis will answer it anyway, and keeps its place until Redis has
// or the connection is given up. So fn may still run when query has returned: what it finds out
// it returns, and it writes no variable of its caller.
func query[T any](ctx context.Context, s *Store, share *places, fn func(context.Context, rueidis.Client) (T, error)) (found T, err error) {
	if err := ctx.Err(); err != nil {
		return found, notSent(err)
	}
	client, err := s.link.get()
	if err != nil {
		return found, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CommandTimeout)
	defer cancel()
	if err := share.take(ctx); err != nil {
		return found, notSent(fmt.Errorf("no place among the commands under way: %w", err))
	}
	type answer struct {
		found T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		defer share.give()
		// rueidis returns when a context ends, while its answer is still due. Without one it
		// returns when the answer is there.
		found, err := fn(context.WithoutCancel(ctx), client)
		done <- answer{found, err}
	}()
	select {
	case a := <-done:
		return a.found, a.err
	case <-ctx.Done():
		return found, fmt.Errorf("%w: redis: %w", mom.ErrUnavailable, ctx.Err())
	}
}

// command is query for what answers nothing but that it was done.
func (s *Store) command(ctx context.Context, share *places, fn func(context.Context, rueidis.Client) error) error {
	_, err := query(ctx, s, share, func(ctx context.Context, client rueidis.Client) (struct{}, error) {
		return struct{}{}, fn(ctx, client)
	})
	return err
}

// run runs a script on a shard, whose prefix it adds to the arguments.
func (s *Store) run(ctx context.Context, sc *script, keys *shardKeys, given args, rest ...string) (rueidis.RedisMessage, error) {
	given["base"] = keys.base
	argv := sc.argv(given, rest)
	reply, err := query(ctx, s, s.sharesOf(keys).of(sc), func(ctx context.Context, client rueidis.Client) (rueidis.RedisMessage, error) {
		return s.exec(ctx, client, sc, keys.all, argv)
	})
	if errors.Is(err, errDefect) {
		log := s.log.With("script", sc.name, "shard", keys.base)
		if task, ok := given["ulid"]; ok {
			log = log.With("task", task)
		}
		log.Error("a script failed midway", "error", err)
	}
	if err != nil {
		return rueidis.RedisMessage{}, fmt.Errorf("%s: %w", sc.name, err)
	}
	return reply, nil
}

// alone runs a script on a key of its own, outside the shards. It answers with a text.
func (s *Store) alone(ctx context.Context, sc *script, key string, given args) (string, error) {
	argv := sc.argv(given, nil)
	return query(ctx, s, s.link.shares.of(sc), func(ctx context.Context, client rueidis.Client) (string, error) {
		reply, err := s.exec(ctx, client, sc, []string{key}, argv)
		if err != nil {
			return "", err
		}
		return reply.ToString()
	})
}

// largeText is the least that Redis can be set to refuse as one text
// (proto-max-bulk-len). It then answers before it has read all of the command, whose
// memory rueidis would use again while it still writes it: such a command is pinned.
const largeText = 1 << 20

// exec runs a script in the form that the server understands.
func (s *Store) exec(ctx context.Context, client rueidis.Client, sc *script, keys, argv []string) (rueidis.RedisMessage, error) {
	if err := s.learnFlavour(ctx, client); err != nil {
		return rueidis.RedisMessage{}, err
	}
	lua, text := sc.plain, sc.plainText
	if s.flavour.Load() == flavourFlagged {
		lua, text = sc.flagged, sc.flaggedText
	}
	result := lua.Exec
	if slices.ContainsFunc(argv, func(arg string) bool { return len(arg) >= largeText }) {
		result = func(ctx context.Context, client rueidis.Client, keys, argv []string) rueidis.RedisResult {
			return client.Do(ctx, client.B().Eval().Script(text).Numkeys(int64(len(keys))).Key(keys...).Arg(argv...).Build().Pin())
		}
	}
	reply, err := result(ctx, client, keys, argv).ToMessage()
	if err := s.judge(err); err != nil {
		return rueidis.RedisMessage{}, err
	}
	return reply, nil
}

// status runs a script that answers with one word.
func (s *Store) status(ctx context.Context, sc *script, keys *shardKeys, given args) (string, error) {
	reply, err := s.run(ctx, sc, keys, given)
	if err != nil {
		return "", err
	}
	word, err := reply.ToString()
	if err != nil {
		return "", fmt.Errorf("%s: %w", sc.name, err)
	}
	return word, nil
}

// Which form of the scripts a server understands.
const (
	flavourUnknown int32 = iota
	flavourPlain
	flavourFlagged
)

// learnFlavour asks the server once what it is; Check asks again.
func (s *Store) learnFlavour(ctx context.Context, client rueidis.Client) error {
	if s.flavour.Load() != flavourUnknown {
		return nil
	}
	info, err := s.serverInfo(ctx, client)
	if err != nil {
		return err
	}
	s.setFlavour(info)
	return nil
}

func (s *Store) setFlavour(info map[string]string) {
	flavour := flavourPlain
	if major(info["redis_version"]) >= 7 {
		flavour = flavourFlagged
	}
	s.flavour.Store(flavour)
}
