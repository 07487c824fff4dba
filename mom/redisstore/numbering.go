package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"holdline/internal/route"
	"holdline/mom"
)

// numbering is the text at hl:shards:{package.Service}. As long as the number was never changed,
// the text is this number alone, the only form that the release before can read.
type numbering struct {
	Shards  int       `json:"shards"`
	Epoch   int64     `json:"epoch"`
	Earlier []earlier `json:"earlier,omitempty"`
	// Next is a change that has begun. Its epoch is written to the shards one by one, which closes them
	// to tasks placed by this numbering. When all are closed, Next replaces this numbering.
	Next *next `json:"next,omitempty"`
}

// earlier is a former number of shards.
type earlier struct {
	Shards int   `json:"shards"`
	Until  int64 `json:"until"` // ms, by the clock of Redis
}

type next struct {
	Shards int   `json:"shards"`
	Epoch  int64 `json:"epoch"`
}

func readNumbering(text string) (numbering, error) {
	var n numbering
	if shards, err := strconv.Atoi(text); err == nil {
		n.Shards = shards
	} else if err := json.Unmarshal([]byte(text), &n); err != nil {
		return n, fmt.Errorf("the number of shards is %q, which this release cannot read", text)
	}
	for _, shards := range n.numbers() {
		if shards < 1 || shards > route.MaxShards {
			return n, fmt.Errorf("the number of shards is %q, want numbers from 1 to %d", text, route.MaxShards)
		}
	}
	return n, nil
}

func (n numbering) text() (string, error) {
	if n.Epoch == 0 && n.Next == nil {
		return strconv.Itoa(n.Shards), nil
	}
	text, err := json.Marshal(n)
	return string(text), err
}

// numbers returns the present, the earlier and the next number of shards.
func (n numbering) numbers() []int {
	list := []int{n.Shards}
	for _, e := range n.Earlier {
		list = append(list, e.Shards)
	}
	if n.Next != nil {
		list = append(list, n.Next.Shards)
	}
	return list
}

// after returns the numbering once its change has ended, at the time now of Redis in ms.
func (n numbering) after(now int64) numbering {
	then := numbering{Shards: n.Next.Shards, Epoch: n.Next.Epoch}
	for _, e := range append([]earlier{{n.Shards, now}}, n.Earlier...) {
		known := func(other earlier) bool { return other.Shards == e.Shards }
		if e.Shards != then.Shards && !slices.ContainsFunc(then.Earlier, known) {
			then.Earlier = append(then.Earlier, e)
		}
	}
	return then
}

// known returns the part that a MOM needs.
func (n numbering) known() mom.Numbering {
	is := mom.Numbering{Shards: n.Shards, Epoch: n.Epoch}
	for _, e := range n.Earlier {
		is.Earlier = append(is.Earlier, e.Shards)
	}
	return is
}

// Numbering implements mom.Store.
func (s *Store) Numbering(ctx context.Context, service string, first int) (mom.Numbering, error) {
	text, n, err := s.numbering(ctx, service)
	if err == nil && text == "" {
		if first == 0 {
			return mom.Numbering{}, mom.ErrNotFound
		}
		text, n, err = s.swap(ctx, service, "", numbering{Shards: first})
	}
	if err == nil && n.Next != nil {
		text, n, err = s.endChange(ctx, service, text, n)
	}
	if err == nil && len(n.Earlier) > 0 {
		n, err = s.forgetEarlier(ctx, service, text, n)
	}
	if err != nil {
		return mom.Numbering{}, fmt.Errorf("numbering of %s: %w", service, err)
	}
	return n.known(), nil
}

// Renumber implements mom.Store. The change is written down before it begins, so that any MOM
// that reads it can complete it.
func (s *Store) Renumber(ctx context.Context, service string, shards int) (mom.Numbering, error) {
	if shards < 1 || shards > route.MaxShards {
		return mom.Numbering{}, fmt.Errorf("renumber %s: want 1 to %d shards", service, route.MaxShards)
	}
	for {
		is, err := s.Numbering(ctx, service, shards)
		if err != nil || is.Shards == shards {
			return is, err
		}
		if err := s.beginChange(ctx, service, next{shards, is.Epoch + 1}); err != nil {
			return is, fmt.Errorf("renumber %s: %w", service, err)
		}
	}
}

// beginChange writes down a change, unless another one has begun or the number has a later epoch.
func (s *Store) beginChange(ctx context.Context, service string, to next) error {
	text, n, err := s.numbering(ctx, service)
	if err != nil || text == "" || n.Next != nil || n.Epoch >= to.Epoch {
		return err
	}
	n.Next = &to
	_, _, err = s.swap(ctx, service, text, n)
	return err
}

// endChange closes all shards to tasks that are placed by the present number or an earlier one,
// and then puts the next number in its place. Once a shard is closed, no more tasks that were
// placed by those numbers can come into it.
func (s *Store) endChange(ctx context.Context, service, text string, n numbering) (string, numbering, error) {
	// Other MOMs read the number when they see its new epoch, and end the change if we do not. A
	// Redis at its maxmemory refuses this write; we go on without it.
	if err := s.Register(ctx, map[string]int64{service: n.Next.Epoch}); err != nil && !errors.Is(err, mom.ErrQueueFull) {
		return text, n, err
	}
	for i := range slices.Max(n.numbers()) {
		if err := s.number(ctx, mom.Shard{Service: service, Index: i}, n.Next.Epoch); err != nil {
			return text, n, err
		}
	}
	now, err := s.now(ctx)
	if err != nil {
		return text, n, err
	}
	return s.swap(ctx, service, text, n.after(now.UnixMilli()))
}

// forgetEarlier drops numbers by which no stored task is placed any more. No record is kept for longer than
// longestRecord, unless an operator retried its task. So shards that no other number has must be empty, too.
func (s *Store) forgetEarlier(ctx context.Context, service, text string, n numbering) (numbering, error) {
	now, err := s.now(ctx)
	if err != nil {
		return n, err
	}
	left := n
	left.Earlier = slices.DeleteFunc(slices.Clone(n.Earlier), func(e earlier) bool {
		return now.Sub(time.UnixMilli(e.Until)) > s.longestRecord()
	})
	if len(left.Earlier) == len(n.Earlier) {
		return n, nil
	}
	for i := slices.Max(left.numbers()); i < slices.Max(n.numbers()); i++ {
		depth, err := s.Depth(ctx, mom.Shard{Service: service, Index: i})
		if err != nil || !depth.Empty() {
			return n, err
		}
	}
	_, n, err = s.swap(ctx, service, text, left)
	return n, err
}

// reconcile repairs a shard, or a number, whose last change was lost: a node of a cluster that
// fails can lose what it acknowledged just before. The caller sends another Add, which shows
// whether the repair has helped.
func (s *Store) reconcile(ctx context.Context, shard mom.Shard, epoch string) {
	has, err := strconv.ParseInt(epoch, 10, 64)
	var is mom.Numbering
	if err == nil {
		is, err = s.Numbering(ctx, shard.Service, 0)
	}
	switch {
	case err != nil:
	case has < is.Epoch:
		err = s.number(ctx, shard, is.Epoch)
	case has > is.Epoch:
		err = s.beginChange(ctx, shard.Service, next{is.Shards, has + 1})
	}
	if err != nil {
		s.log.Debug("number of shards not reconciled", "service", shard.Service, "error", err)
	}
}

// number opens a shard for tasks placed by the numbering of that epoch, and closes it for earlier ones.
func (s *Store) number(ctx context.Context, shard mom.Shard, epoch int64) error {
	return s.do(ctx, numberScript, s.keys(shard), args{"epoch": strconv.FormatInt(epoch, 10)})
}

// numbering reads the numbering of a service, and its text, which is empty when there is none.
func (s *Store) numbering(ctx context.Context, service string) (text string, n numbering, err error) {
	text, err = query(ctx, s, s.link.shares.upkeep, func(ctx context.Context, client rueidis.Client) (string, error) {
		text, err := client.Do(ctx, client.B().Get().Key(shardCountKey(s.cfg.Prefix, service)).Build()).ToString()
		return text, s.judge(err)
	})
	if err != nil || text == "" {
		return "", n, err
	}
	n, err = readNumbering(text)
	return text, n, err
}

// swap replaces the numbering whose text is old, unless another process has replaced it before, and
// returns the one that is stored then.
func (s *Store) swap(ctx context.Context, service, old string, to numbering) (text string, n numbering, err error) {
	want, err := to.text()
	if err != nil {
		return old, to, err
	}
	text, err = s.alone(ctx, swapScript, shardCountKey(s.cfg.Prefix, service), args{"old": old, "new": want})
	if err != nil {
		return old, to, err
	}
	n, err = readNumbering(text)
	return text, n, err
}

// now reads the clock of Redis.
func (s *Store) now(ctx context.Context) (time.Time, error) {
	return query(ctx, s, s.link.shares.upkeep, func(ctx context.Context, client rueidis.Client) (time.Time, error) {
		parts, err := client.Do(ctx, client.B().Time().Build()).AsIntSlice()
		if err != nil {
			return time.Time{}, s.judge(err)
		}
		if len(parts) != 2 {
			return time.Time{}, errors.New("unexpected reply to TIME")
		}
		return time.Unix(parts[0], parts[1]*1000), nil
	})
}
