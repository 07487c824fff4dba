package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// run runs a script on a shard, whose prefix it adds to the arguments. A refusal is an error.
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
	if reply.IsString() {
		word, _ := reply.ToString()
		return reply, refusals[word]
	}
	return reply, nil
}

// alone runs a script that belongs to no shard on its one key, and returns the text of its reply.
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
	flagged, err := s.takesFlags(ctx, client)
	if err != nil {
		return rueidis.RedisMessage{}, err
	}
	form := sc.plain
	if flagged {
		form = sc.flagged
	}
	var result rueidis.RedisResult
	if slices.ContainsFunc(argv, func(arg string) bool { return len(arg) >= largeText }) {
		result = client.Do(ctx, client.B().Eval().Script(form.text).Numkeys(int64(len(keys))).Key(keys...).Arg(argv...).Build().Pin())
	} else {
		result = form.lua.Exec(ctx, client, keys, argv)
	}
	reply, err := result.ToMessage()
	if err := s.judge(err); err != nil {
		return rueidis.RedisMessage{}, err
	}
	return reply, nil
}

// do runs a script whose reply says nothing but that it was done.
func (s *Store) do(ctx context.Context, sc *script, keys *shardKeys, given args) error {
	_, err := s.run(ctx, sc, keys, given)
	return err
}

// numbers runs a script that answers with n numbers.
func (s *Store) numbers(ctx context.Context, sc *script, keys *shardKeys, n int, given args) ([]int64, error) {
	reply, err := s.run(ctx, sc, keys, given)
	if err != nil {
		return nil, err
	}
	numbers, err := reply.AsIntSlice()
	if err != nil || len(numbers) != n {
		return nil, fmt.Errorf("%s: %d numbers, not %d: %w", sc.name, len(numbers), n, err)
	}
	return numbers, nil
}

// takesFlags asks the server once whether it understands the flags of a script; Check asks again.
func (s *Store) takesFlags(ctx context.Context, client rueidis.Client) (bool, error) {
	if known := s.flagged.Load(); known != nil {
		return *known, nil
	}
	info, err := s.serverInfo(ctx, client)
	if err != nil {
		return false, err
	}
	return s.setFlagged(info), nil
}

func (s *Store) setFlagged(info map[string]string) (flagged bool) {
	first, _, _ := strings.Cut(info["redis_version"], ".")
	major, _ := strconv.Atoi(first) // 0 for a server that does not say
	flagged = major >= 7
	s.flagged.Store(&flagged)
	return flagged
}
