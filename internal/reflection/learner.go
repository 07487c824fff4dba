package reflection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"connectrpc.com/connect/v2"
	"golang.org/x/sync/singleflight"

	"holdline/internal/route"
	"holdline/internal/upstream"
)

const (
	// askTime bounds one question.
	askTime = 5 * time.Second
	// confirmTime bounds one that a call waits for.
	confirmTime = 2 * time.Second
	// slowPause is the time between two questions, and quickPause that to a service whose schema nobody knows yet
	// and that could not be asked.
	slowPause, quickPause = 30 * time.Second, 2 * time.Second
	// doubtPause is the least time between two questions to a service whose schema is in doubt; to one that has told none
	// lately it is nonePause, and to one that has just told another schema than before changePause: the store keeps each.
	doubtPause, nonePause, changePause = time.Second, 5 * time.Second, time.Minute
)

// errHTTP1 says that a service cannot be asked.
var errHTTP1 = fmt.Errorf("%w: it does not speak HTTP/2", ErrNone)

// Learner asks services for their schemas, as long as it runs. It is safe for concurrent use.
type Learner struct {
	Schemas *route.Schemas
	Log     *slog.Logger

	mu       sync.Mutex
	asked    map[string]*upstream.Pool // by service
	followed map[string]followed       // those that are asked now
	running  context.Context           //nolint:containedctx // of Run; nil unless it runs
	asking   sync.WaitGroup

	confirming singleflight.Group
	doubts     sync.Map // service → chan struct{}, of those that are followed: calls look here, and wait for nobody
}

// followed is a service that is asked, until stop is called.
type followed struct {
	pool      *upstream.Pool
	stop      context.CancelFunc
	confirmed time.Time // when it was last asked because of a message
}

// Follow has the services of these routes asked from now on, and no others: each at its pool, unless its route or an
// image says what schema it has.
func (l *Learner) Follow(routes route.Table, pool func(service string) *upstream.Pool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = map[string]*upstream.Pool{}
	for service := range routes {
		if l.Schemas.Learns(service) {
			l.asked[service] = pool(service)
		}
	}
	if l.running != nil && l.running.Err() == nil {
		l.keepUp()
	}
}

// keepUp asks those that are to be asked; mu is held.
func (l *Learner) keepUp() {
	for service, f := range l.followed {
		if l.asked[service] != f.pool {
			f.stop()
			delete(l.followed, service)
			l.doubts.Delete(service)
		}
	}
	for service, pool := range l.asked {
		if l.followed[service].pool == nil {
			ctx, stop := context.WithCancel(l.running)
			doubt := make(chan struct{}, 1)
			l.followed[service] = followed{pool: pool, stop: stop}
			l.doubts.Store(service, doubt)
			l.asking.Go(func() { l.follow(ctx, service, pool, doubt) })
		}
	}
}

// Doubt says that there is a call of a method that is not in the schema of its service: it may have a new one, and is
// asked soon.
func (l *Learner) Doubt(service string) {
	if doubt, ok := l.doubts.Load(service); ok {
		select {
		case doubt.(chan struct{}) <- struct{}{}: //nolint:forcetypeassert // nothing else is in it
		default: // it is in doubt already
		}
	}
}

// Confirm asks a service for its schema now, if that was learned from it and was not confirmed within the last second. Callers
// who would lose something of a message wait for it: the service may know what we do not. It takes two seconds at most.
func (l *Learner) Confirm(service string) {
	_, _, _ = l.confirming.Do(service, func() (any, error) {
		l.mu.Lock()
		f, ok := l.followed[service]
		ok = ok && time.Since(f.confirmed) >= doubtPause
		if f.confirmed = time.Now(); ok {
			l.followed[service] = f
		}
		l.mu.Unlock()
		if !ok {
			return nil, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), confirmTime)
		defer cancel()
		return nil, l.ask(ctx, service, f.pool.Pick())
	})
}

// Run asks until ctx ends.
func (l *Learner) Run(ctx context.Context) error {
	l.mu.Lock()
	l.running, l.followed = ctx, map[string]followed{}
	l.keepUp()
	l.mu.Unlock()
	<-ctx.Done()
	l.mu.Lock() // whoever has it begins nothing any more
	defer l.mu.Unlock()
	l.asking.Wait()
	for _, f := range l.followed {
		f.stop()
	}
	return nil
}

// follow asks one service again and again.
func (l *Learner) follow(ctx context.Context, service string, pool *upstream.Pool, doubt <-chan struct{}) {
	for said := false; ctx.Err() == nil; {
		before := l.Schemas.Digest(service)
		err, least, pause := l.ask(ctx, service, pool.Pick()), doubtPause, slowPause
		now := l.Schemas.Digest(service)
		switch known := now != ""; {
		case errors.Is(err, ErrNone):
			least = nonePause
			if !known && !said {
				l.Log.Warn("no schema: calls of this service pass, and are not stored or translated; give an image with --schema", "service", service, "error", err)
				said = true
			}
		case err != nil && !errors.As(err, new(*connect.Error)):
			least = nonePause
			if !said {
				l.Log.Warn("the schema that a service tells cannot be used; give an image with --schema", "service", service, "error", err)
				said = true
			}
		case err != nil:
			l.Log.Debug("service not asked for its schema", "service", service, "error", err)
			if !known {
				pause = quickPause
			}
		case before != "" && now != before:
			least = changePause
		}
		if wait(ctx, least, nil) {
			wait(ctx, pause, doubt)
		}
	}
}

// wait waits for a time, or for the first of these signals; false when ctx ends before.
func wait(ctx context.Context, pause time.Duration, signal <-chan struct{}) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-signal:
	case <-ctx.Done():
		return false
	}
	return true
}

// ask asks an endpoint once.
func (l *Learner) ask(ctx context.Context, service string, endpoint *upstream.Endpoint) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	client, url := endpoint.Asking()
	schema, err := Fetch(ctx, client, url, service)
	switch {
	case err != nil && !endpoint.SpeaksHTTP2():
		return errHTTP1
	case err != nil:
		return err
	}
	if l.Schemas.Learn(service, schema) {
		l.Log.Info("schema learned from the service", "service", service, "methods", len(schema.Methods(service)))
	}
	return nil
}
