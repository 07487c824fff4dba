package reflection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"golang.org/x/sync/singleflight"

	"holdline/internal/route"
	"holdline/internal/upstream"
)

const (
	// askTime bounds one question.
	askTime = 5 * time.Second
	// confirmTime bounds a question for which a call waits because the schema lacks a part of its message, and soonTime because the schema
	// lacks its method.
	confirmTime, soonTime = 2 * time.Second, 400 * time.Millisecond
	// healthTime bounds the health check of an endpoint that has not answered the question for its schema.
	healthTime = time.Second
	// alivePatience is how long a service may be alive without naming a schema. After that we conclude that it has none.
	alivePatience = 30 * time.Second
	// slowPause is the time between two questions. It is quickPause if the service could not be asked: it may come back with another schema.
	slowPause, quickPause = 30 * time.Second, 2 * time.Second
	// doubtPause is the minimum time between two questions to a service whose schema is in doubt. It is slowPause if the last answer had a
	// new schema: the store keeps each schema.
	doubtPause = 5 * time.Second
	// confirmPause is the minimum time between two questions that calls wait for. It is soonPause if the service does not answer them, or was down.
	confirmPause, soonPause = time.Second, 100 * time.Millisecond
)

// errHTTP1 says that a service cannot be asked.
var errHTTP1 = fmt.Errorf("%w: it does not speak HTTP/2", ErrNone)

// Learner asks services for their schemas, as long as it runs. It is safe for concurrent use.
type Learner struct {
	Schemas *route.Schemas
	Log     *slog.Logger
	// Elsewhere asks somebody else for the schema of a service, and has Schemas learn it. It is called while a call waits and the service itself
	// has given no schema. May be nil.
	Elsewhere func(ctx context.Context, service string)

	mu      sync.Mutex
	running context.Context //nolint:containedctx // of Run; nil unless it runs
	asking  sync.WaitGroup

	asked      sync.Map // service → *asked: calls look here without a lock
	confirming singleflight.Group
}

// asked is a service that we ask for its schema.
type asked struct {
	pool      *upstream.Pool
	doubt     chan struct{}
	told      atomic.Bool        // the service has given a schema, or answered that it has none
	stop      context.CancelFunc // ends the goroutine that asks again and again; nil: there is none. The Learner's mutex guards it
	waited    time.Time          // when calls waited for a question last; only confirm uses this
	confirmed time.Time          // when such a question was answered last, or need not be asked because the service has no schema
}

// Follow replaces the services that are asked by the services of these routes, each at its pool. A service whose schema comes from its route or
// from an image is not asked.
func (l *Learner) Follow(routes route.Table, pool func(service string) *upstream.Pool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for service, a := range l.all {
		if routes[service] != nil && l.Schemas.Learns(service) && a.pool == pool(service) {
			continue
		}
		if a.stop != nil {
			a.stop()
		}
		l.asked.Delete(service)
	}
	for service := range routes {
		if l.of(service) == nil && l.Schemas.Learns(service) {
			l.asked.Store(service, &asked{pool: pool(service), doubt: make(chan struct{}, 1)})
		}
	}
	if l.running != nil && l.running.Err() == nil {
		l.keepUp()
	}
}

// keepUp begins to ask the services that are not asked yet; mu is held.
func (l *Learner) keepUp() {
	for service, a := range l.all {
		if a.stop == nil {
			var ctx context.Context
			ctx, a.stop = context.WithCancel(l.running)
			l.asking.Go(func() { l.follow(ctx, service, a) })
		}
	}
}

// all yields the services that are asked.
func (l *Learner) all(yield func(service string, a *asked) bool) {
	l.asked.Range(func(service, a any) bool {
		return yield(service.(string), a.(*asked)) //nolint:forcetypeassert // nothing else is in it
	})
}

// of returns the state of a service; nil if the service is not asked.
func (l *Learner) of(service string) *asked {
	if a, ok := l.asked.Load(service); ok {
		return a.(*asked) //nolint:forcetypeassert // nothing else is in it
	}
	return nil
}

// Doubt is called when a call's method is not in the schema of its service: the service may have a new schema, and is
// asked soon.
func (l *Learner) Doubt(service string) {
	if a := l.of(service); a != nil {
		select {
		case a.doubt <- struct{}{}:
		default: // it is in doubt already
		}
	}
}

// Untold tells whether a service is asked for its schema, nobody knows the schema, and the service has not answered that it has none.
func (l *Learner) Untold(service string) bool {
	a := l.of(service)
	return a != nil && !a.told.Load() && l.Schemas.Lacks(service)
}

// Confirm asks a service for its schema now. A call waits for it if the known schema lacks fields of its message, since the service may have
// a newer schema. Confirm does not ask again within a second after an answer, and takes two seconds at most.
func (l *Learner) Confirm(service string) { l.confirm(service, confirmTime, false) }

// Back asks a service for its schema that was down and is back, before the first call is sent to it: it may be another build. It takes two
// seconds at most, and as long again if nobody has told a schema and Elsewhere does not answer.
func (l *Learner) Back(service string) { l.confirm(service, confirmTime, true) }

// Find looks for a procedure that no schema had. It asks the service, and then Elsewhere, for the schema: for half a second
// each at most. A service that is Untold is asked for each call, ten times a second at most. If no schema has the method, untold tells whether a schema
// may still come, and the service is in doubt (see Doubt).
func (l *Learner) Find(service, procedure string) (method *route.Method, untold bool) {
	l.confirm(service, soonTime, false)
	untold = l.Untold(service) // before the look into Schemas, which finds a schema that comes in between
	if method = l.Schemas.Method(procedure); method == nil {
		l.Doubt(service)
	}
	return method, untold
}

// confirm asks, unless the service has just answered. What a service has answered before it was down says nothing of what it is now.
func (l *Learner) confirm(service string, most time.Duration, wasDown bool) {
	_, _, _ = l.confirming.Do(service, func() (any, error) {
		a := l.of(service)
		switch {
		case a == nil:
			return nil, nil
		case l.Untold(service):
			time.Sleep(soonPause - time.Since(a.waited))
		case time.Since(a.confirmed) < soonPause, !wasDown && (time.Since(a.waited) < soonPause || time.Since(a.confirmed) < confirmPause):
			return nil, nil
		}
		var err error // nil: the service has answered before that it has none
		if l.Untold(service) || !l.Schemas.Lacks(service) || wasDown {
			err = within(most, func(ctx context.Context) error { return l.ask(ctx, service, a) })
		}
		if l.Elsewhere != nil && l.Schemas.Lacks(service) {
			_ = within(most, func(ctx context.Context) error { l.Elsewhere(ctx, service); return nil })
		}
		if a.waited = time.Now(); hasSaid(err) {
			a.confirmed = a.waited
		}
		return nil, err
	})
}

// within calls ask with a context that ends after most.
func within(most time.Duration, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	return ask(ctx)
}

// Moved is called when a service has other endpoints: the answers of the old endpoints about its schema do not count any more.
func (l *Learner) Moved(service string) {
	if a := l.of(service); a != nil {
		a.told.Store(false)
	}
	l.Doubt(service)
}

// Run asks until ctx ends.
func (l *Learner) Run(ctx context.Context) error {
	l.mu.Lock()
	l.running = ctx
	l.keepUp()
	l.mu.Unlock()
	<-ctx.Done()
	l.mu.Lock() // from now on whoever holds it begins no more questions
	defer l.mu.Unlock()
	l.asking.Wait()
	for _, a := range l.all {
		if a.stop != nil { // otherwise the service was added after ctx had ended
			a.stop()
		}
		a.stop = nil
	}
	return nil
}

// follow asks one service again and again.
func (l *Learner) follow(ctx context.Context, service string, a *asked) {
	since := time.Now() // from then on the service is alive without naming a schema
	said := false
	none := func(err error) {
		said = true
		l.Log.Warn("no schema: calls of this service pass, and are not stored or translated; give an image with --schema", "service", service, "error", err)
	}
	for ctx.Err() == nil {
		before := l.Schemas.Digest(service)
		err, least, pause := l.ask(ctx, service, a), doubtPause, slowPause
		now := l.Schemas.Digest(service)
		switch {
		case errors.Is(err, ErrNone):
			if now == "" && !said {
				none(err)
			}
		case err != nil && !errors.As(err, new(*connect.Error)):
			if !said {
				l.Log.Warn("the schema that a service tells cannot be used; give an image with --schema", "service", service, "error", err)
				said = true
			}
		case err != nil:
			l.Log.Debug("service not asked for its schema", "service", service, "error", err)
			least, pause = quickPause, quickPause
			switch {
			case !l.Untold(service):
			case !shows(ctx, a.pool.Pick().Healthy):
				since = time.Now()
			case time.Since(since) >= alivePatience:
				none(err)
				a.told.Store(true)
			}
		case before != "" && now != before:
			least = slowPause
		}
		if wait(ctx, least, nil) {
			wait(ctx, pause-least, a.doubt)
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

// ask asks the endpoints of a service in turn, until one has said something: the others may be down.
func (l *Learner) ask(ctx context.Context, service string, a *asked) (err error) {
	var tried []*upstream.Endpoint
	for range a.pool.Len() {
		endpoint := a.pool.Pick(tried...)
		if err = l.askOne(ctx, service, endpoint); hasSaid(err) || ctx.Err() != nil {
			break
		}
		tried = append(tried, endpoint)
	}
	if hasSaid(err) {
		a.told.Store(true)
	}
	return err
}

func (l *Learner) askOne(ctx context.Context, service string, endpoint *upstream.Endpoint) error {
	client, url := endpoint.Asking()
	asking, cancel := context.WithTimeout(ctx, askTime)
	schema, err := Fetch(asking, client, url, service)
	cancel()
	if err != nil && !endpoint.SpeaksHTTP2() {
		err = errHTTP1
	}
	if err == nil && l.Schemas.Learn(service, schema) {
		l.Log.Info("schema learned from the service", "service", service, "methods", len(schema.Methods(service)))
	}
	if !hasSaid(err) && l.Untold(service) && shows(ctx, endpoint.OnlyHTTP1) {
		err = errHTTP1
	}
	return err
}

// hasSaid tells whether a service has answered: it has a schema, or none, or one that cannot be used.
func hasSaid(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled:
		return errors.Is(err, ErrNone)
	}
	return true
}

// shows calls ask, which checks an endpoint's health, for healthTime at most.
func shows(ctx context.Context, ask func(context.Context) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	return ask(ctx)
}
