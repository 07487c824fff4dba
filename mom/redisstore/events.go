package redisstore

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/redis/rueidis"
	"google.golang.org/protobuf/proto"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/mom"
)

// bell wakes a replayer of this process. It keeps one ring until a replayer takes it.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default: // a ring is there already
	}
}

// Listen implements mom.Store.
func (s *Store) Listen(ctx context.Context, id contract.TaskID) error {
	return s.do(ctx, listenScript, s.keysOf(id), args{"ulid": id.ULID.String()})
}

// Watch implements mom.Store. It has a connection of its own, so that a slow callback delays
// nothing else. If a callback is too slow, Redis closes this connection, and a resync follows.
// Watch returns ctx's error.
func (s *Store) Watch(ctx context.Context, shards []mom.Shard, changed func(mom.Shard, []mom.Transition), resync func()) error {
	channels := make([]string, len(shards))
	byChannel := make(map[string]mom.Shard, len(shards))
	for i, shard := range shards {
		channels[i] = s.keys(shard).events()
		byChannel[channels[i]] = shard
	}
	ring := func(shard mom.Shard) { s.keys(shard).bell.ring() }
	w := watcher{channels: channels, shards: byChannel, changed: changed, ring: ring, resync: func() {
		for _, shard := range shards {
			ring(shard)
		}
		resync()
	}}
	const least, most = 50 * time.Millisecond, time.Second
	for pause := least; ; pause = min(2*pause, most) {
		if len(channels) > 0 {
			if client, err := s.link.get(); err == nil && w.watch(ctx, client, s.cfg.CommandTimeout) {
				pause = least
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// bellMessage is what core.lua publishes to wake replayers without a transition.
const bellMessage = "bell"

type watcher struct {
	channels []string
	shards   map[string]mom.Shard
	changed  func(mom.Shard, []mom.Transition)
	ring     func(mom.Shard)
	resync   func()
}

// watch subscribes, and returns when the connection or ctx ends. connected tells whether Redis
// has confirmed all subscriptions. Neither callback runs after watch has returned.
func (w *watcher) watch(ctx context.Context, client rueidis.Client, timeout time.Duration) (connected bool) {
	conn, release := client.Dedicate()
	defer release()
	events := make(chan func())
	left := make(chan struct{})
	// The hooks run in the goroutine that reads the connection. They hand over to this goroutine
	// and wait for it, so that Redis buffers the messages that we cannot take yet.
	handOver := func(event func()) {
		select {
		case events <- event:
		case <-left:
		}
	}
	confirmed := 0
	closed := conn.SetPubSubHooks(rueidis.PubSubHooks{
		OnMessage: func(m rueidis.PubSubMessage) {
			shard, ok := w.shards[m.Channel]
			if !ok {
				return
			}
			if m.Message == bellMessage {
				w.ring(shard)
				return
			}
			transitions := readTransitions(m.Message)
			if slices.ContainsFunc(transitions, func(t mom.Transition) bool { return t.State == momv1.TaskState_TASK_STATE_QUEUED }) {
				w.ring(shard)
			}
			if len(transitions) > 0 {
				handOver(func() { w.changed(shard, transitions) })
			}
		},
		OnSubscription: func(sub rueidis.PubSubSubscription) {
			if sub.Kind != "subscribe" {
				return
			}
			if confirmed++; confirmed == len(w.channels) {
				handOver(func() { connected = true; w.resync() })
			}
		},
	})
	subscribe, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var failed error
	subscribed := make(chan struct{})
	go func() {
		defer close(subscribed)
		failed = conn.Do(subscribe, conn.B().Subscribe().Channel(w.channels...).Build()).Error()
	}()
	// Closing is quicker than unsubscribing, and cannot hang on a silent server. left is closed
	// first, so that no hook holds up the reader: Close waits for the reader.
	defer func() {
		close(left)
		conn.Close()
		<-subscribed
	}()
	var look <-chan time.Time
	began := addressOf(client)
	if client.Mode() == rueidis.ClientModeSentinel {
		// After a failover the old master may keep our connection until it becomes a replica.
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		look = ticker.C
	}
	for answered := subscribed; ; {
		select {
		case <-look:
			if addressOf(client) != began {
				return connected
			}
		case event := <-events:
			event()
		case <-answered:
			if failed != nil {
				return connected
			}
			answered = nil
		case <-closed:
			return connected
		case <-ctx.Done():
			return connected
		}
	}
}

// addressOf returns the address of the client's server, or of any of its servers.
func addressOf(client rueidis.Client) string {
	for address := range client.Nodes() {
		return address
	}
	return ""
}

// readTransitions reads a message that a script has published (shared/core.lua, shared/say.lua): "<ulid> <state>"; or "many " and then, for each transition,
// with a blank between them, its ULID and its state, which is one digit. If there is an answer, then =, its length, a blank and the
// answer follow. It leaves out transitions that cannot be read.
func readTransitions(message string) (transitions []mom.Transition) {
	rest, many := strings.CutPrefix(message, "many ")
	if !many {
		name, number, _ := strings.Cut(message, " ")
		rest = name + number
	}
	for len(rest) > ulid.EncodedSize {
		var t mom.Transition
		var err error
		t.ULID, err = ulid.ParseStrict(rest[:ulid.EncodedSize])
		t.State = readState(rest[ulid.EncodedSize : ulid.EncodedSize+1])
		rest = rest[ulid.EncodedSize+1:]
		if tail, ok := strings.CutPrefix(rest, "="); ok {
			number, after, _ := strings.Cut(tail, " ")
			size, bad := strconv.Atoi(number)
			if bad != nil || size < 0 || size > len(after) {
				return transitions
			}
			t.Answer = new(momv1.Answer)
			if proto.Unmarshal([]byte(after[:size]), t.Answer) != nil {
				t.Answer = nil // those who wait for it read it from the store, and report the error
			}
			rest = after[size:]
		}
		rest = strings.TrimPrefix(rest, " ")
		if err == nil && t.State != momv1.TaskState_TASK_STATE_UNSPECIFIED {
			transitions = append(transitions, t)
		}
	}
	return transitions
}
