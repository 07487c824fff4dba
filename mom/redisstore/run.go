package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis/rueidis"

	"holdline/mom"
)

// args are the arguments of a script, by name.
type args map[string]string

// argv puts the arguments in the order that the script expects, and the rest after them. It panics when
// an argument is missing, or is not in the script's list: that is a bug in this package.
func (s *script) argv(given args, rest []string) []string {
	argv := make([]string, 0, len(s.args)+len(rest))
	for _, name := range s.args {
		value, ok := given[name]
		if !ok || len(given) != len(s.args) {
			panic(fmt.Sprintf("script %s takes %v, not %v", s.name, s.args, slices.Sorted(maps.Keys(given))))
		}
		argv = append(argv, value)
	}
	return append(argv, rest...)
}

// run runs a script on a shard, whose prefix it adds to the arguments. A refusal is an error.
func (s *Store) run(ctx context.Context, sc *script, keys *shardKeys, given args, rest ...string) (rueidis.RedisMessage, error) {
	if !sc.reads {
		if err := s.permitted(ctx); err != nil {
			return rueidis.RedisMessage{}, fmt.Errorf("%s: %w", sc.name, err)
		}
	}
	given["base"] = keys.base
	argv := sc.argv(given, rest)
	reply, err := query(ctx, s, s.sharesOf(keys).of(sc), func(ctx context.Context, client rueidis.Client) (rueidis.RedisMessage, error) {
		return s.exec(ctx, client, sc, keys.all, argv)
	})
	if errors.Is(err, errDefect) {
		attrs := []any{"script", sc.name, "shard", keys.base, "error", err}
		if tasks := keys.tasksAmong(append(slices.Clip(rest), given["ulid"])...); len(tasks) > 0 {
			attrs = append(attrs, "tasks", tasks)
		}
		s.once.Log(slog.LevelError, "midway "+sc.name+keys.base, "a script failed midway", attrs...)
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

// largeText is the smallest limit that Redis can have for one text (proto-max-bulk-len). Redis
// refuses a longer text before it has read the whole command, and rueidis would reuse the
// command's memory while it still writes it. So such a command is pinned.
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

// do runs a script whose reply is only OK or a refusal.
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
	info, err := s.readInfo(client.Do(ctx, client.B().Info().Build()))
	if err != nil {
		return false, err
	}
	return s.setFlagged(info), nil
}

func (s *Store) setFlagged(info map[string]string) (flagged bool) {
	first, _, _ := strings.Cut(info["redis_version"], ".")
	major, _ := strconv.Atoi(first) // 0 for a server that does not report its version
	flagged = major >= 7
	s.flagged.Store(&flagged)
	return flagged
}

func (s *Store) tombstone() string { return millis(s.cfg.TombstoneTTL) }

func epoch(lease mom.Lease) string { return strconv.FormatInt(lease.Epoch, 10) }

// millis returns at least 1: Redis refuses an expiry of 0.
func millis(d time.Duration) string {
	return strconv.FormatInt(max(d.Milliseconds(), 1), 10)
}

// millisOrNone is millis for a duration that may be 0.
func millisOrNone(d time.Duration) string {
	return strconv.FormatInt(max(d, 0).Milliseconds(), 10)
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// maxText keeps a text short enough for a listpack, whose limit is 64 bytes.
const maxText = 60

// shorten cuts a text to maxText bytes, between characters. Texts go into proto
// strings, which must be UTF-8.
func shorten(text string) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= maxText {
		return text
	}
	cut := maxText
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}
