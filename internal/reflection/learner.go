package reflection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
)

// errHTTP1 says that a service cannot be asked.
var errHTTP1 = fmt.Errorf("%w: it does not speak HTTP/2", ErrNone)

// Learner asks services for their schemas, as long as it runs: those that no image has.
type Learner struct {
	Routes  route.Table
	Schemas *route.Schemas
	Pools   map[string]*upstream.Pool // by service
	Learned func(service string)      // called when something new was learned; may be nil
	Log     *slog.Logger
}

// Run asks until ctx ends.
func (l *Learner) Run(ctx context.Context) error {
	var asking errgroup.Group
	for service, pool := range l.Pools {
		if r := l.Routes[service]; r.Schema != route.SchemaNone && !l.Schemas.Given(service) {
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
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
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
		if l.Learned != nil {
			l.Learned(service)
		}
	}
	return nil
}
