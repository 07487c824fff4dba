package redisstore

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"holdline/mom"
)

// args are the arguments of a script, by name.
type args map[string]string

// argv puts arguments into the places where the script looks for them, and the rest behind them. It
// panics when a name is missing, or is none that the script lists: that is a mistake in this package.
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

func (s *Store) tombstone() string { return millis(s.cfg.TombstoneTTL) }

func epoch(lease mom.Lease) string { return strconv.FormatInt(lease.Epoch, 10) }

// millis is at least one: Redis refuses an expiry of none.
func millis(d time.Duration) string {
	return strconv.FormatInt(max(d.Milliseconds(), 1), 10)
}

// millisOrNone is millis for what may be 0.
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
