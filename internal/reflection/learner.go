package reflection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdline/internal/route"
	"holdline/internal/upstream"
)

const (
	// askTime bounds one question.
	askTime = 5 * time.Second
	// slowPause is the time between two questions, and quickPause that to a service whose schema nobody knows yet
	// and that could not be asked.
	slowPause, quickPause = 30 * time.Second, 2 * time.Second
	// doubtPause is the least time between two questions to a service whose schema is in doubt.
	doubtPause = time.Second
)

// errHTTP1 says that a service cannot be asked.
var errHTTP1 = fmt.Errorf("%w: it does not speak HTTP/2", ErrNone)

// Learner asks services for their schemas, as long as it runs: those that no image has.
type Learner struct {
	Schemas *route.Schemas
	Pools   map[string]*upstream.Pool // by service
	Log     *slog.Logger

	doubts sync.Map // service → chan struct{}
}

// Doubt says that there is a call of a method that is not in the schema of its service: it may have a new one, and is
// asked soon. It is safe for concurrent use.
func (l *Learner) Doubt(service string) {
	if doubt, ok := l.doubts.Load(service); ok {
		select {
		case doubt.(chan struct{}) <- struct{}{}: //nolint:forcetypeassert // nothing else is in it
		default: // it is in doubt already
		}
	}
}

// Run asks until ctx ends.
func (l *Learner) Run(ctx context.Context) error {
	var asking errgroup.Group
	for service, pool := range l.Pools {
		if l.Schemas.Learns(service) {
			asking.Go(func() error {
				l.follow(ctx, service, pool)
				return nil
			})
		}
	}
	return asking.Wait()
}

// follow asks one service again and again.
func (l *Learner) follow(ctx context.Context, service string, pool *upstream.Pool) {
	doubt := make(chan struct{}, 1)
	l.doubts.Store(service, doubt)
	for said := false; ctx.Err() == nil; {
		err, pause := l.ask(ctx, service, pool.Pick()), slowPause
		switch known := l.Schemas.Digest(service) != ""; {
		case errors.Is(err, ErrNone):
			if !known && !said {
				l.Log.Warn("no schema: calls of this service pass, and are not stored or translated; give an image with --schema", "service", service, "error", err)
				said = true
			}
		case err != nil:
			l.Log.Debug("service not asked for its schema", "service", service, "error", err)
			if !known {
				pause = quickPause
			}
		}
		if errors.Is(err, ErrNone) {
			wait(ctx, pause, nil) // whatever is called
		} else if wait(ctx, doubtPause, nil) {
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
