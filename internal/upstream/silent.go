package upstream

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// A process that is frozen, or a node that is cut off, closes no connection: it only stops answering.
// If an endpoint has calls and sends nothing on any connection for a while, we
// ask for its health on another connection. If two such questions bring no sign of
// life, the endpoint is silent: about 3 s after its last sign of life. While the first question is not
// answered, we also ask the pool's other endpoints. A failure that cuts off one endpoint often cuts
// off its neighbours, and a call that is tried there next must not wait again for the same time.
const (
	watchPause    = 250 * time.Millisecond
	firstPatience = time.Second     // from the last sign of life to the question
	maxPatience   = 4 * time.Second // if calls are slow, or streams are quiet, and the endpoint has answered the last question
	signTimeout   = time.Second
	doubtAfter    = 250 * time.Millisecond // from the question to the questions for the other endpoints
	pathPause     = time.Second            // between two looks for dead connections
)

// begin counts an attempt, and has the endpoint watched as long as there are attempts.
func (e *Endpoint) begin() {
	e.begun.Add(1)
	e.inflight.Add(1)
	e.beWatched()
}

func (e *Endpoint) beWatched() {
	if !e.watched.Load() && e.watched.CompareAndSwap(false, true) {
		e.pool.spawn(e.watch)
	}
}

// hear records a sign of life.
func (e *Endpoint) hear() {
	if !e.heard.Load() { // rarely written, so that connections do not fight for it
		e.heard.Store(true)
	}
	if e.silent.Load() {
		e.silent.Store(false)
	}
}

// doubt asks the pool's other endpoints at once, if they have no calls, or have calls and have
// been quiet for firstPatience. It does not ask the rest earlier than usual, since a service that does
// one thing at a time answers nobody while it has a call.
func (e *Endpoint) doubt() {
	for _, other := range *e.pool.endpoints.Load() {
		if other != e {
			other.doubted.Store(true)
			other.beWatched()
		}
	}
}

// watch looks for signs of life as long as there are calls, and asks for the endpoint's health if there are none.
func (e *Endpoint) watch() {
	e.heard.Store(false)
	quiet, patience, begun := time.Duration(0), firstPatience, e.begun.Load()
	var looked time.Time
	for e.doubted.Load() || e.pool.sleep(watchPause) {
		if time.Since(looked) >= pathPause { // before watch may end: with short attempts it ends and begins again all the time
			e.cutDead()
			looked = time.Now()
		}
		doubted, idle := e.doubted.Swap(false), e.inflight.Load() == 0
		if idle && !doubted {
			break
		}
		heard := e.heard.Swap(false)
		if heard || e.silent.Load() { // readmit asks a silent endpoint
			quiet, doubted = 0, false
		} else {
			quiet += watchPause
		}
		if now := e.begun.Load(); heard || now != begun {
			patience, begun = firstPatience, now
		}
		doubted = doubted && (idle || quiet >= firstPatience)
		if quiet < patience && !doubted {
			continue
		}
		if !e.givesSign(doubted) {
			e.cut()
			break
		}
		quiet, patience = 0, min(2*patience, maxPatience)
	}
	e.watched.Store(false)
	// An attempt or a doubt that came before the last line relies on this watch, which ends. So start another one.
	if (e.inflight.Load() > 0 || e.doubted.Load()) && e.pool.ctx.Err() == nil && e.watched.CompareAndSwap(false, true) {
		e.pool.spawn(e.watch)
	}
}

// givesSign asks for the endpoint's health, over HTTP/2 and then over HTTP/1.1: a
// server that knows only one of them may not answer the other at all. Any byte on any connection is a
// sign of life, and so is a connection that is refused or
// closed. An accepted connection is no sign of life: the kernel accepts it also for a frozen process.
func (e *Endpoint) givesSign(doubted bool) bool {
	if !doubted { // otherwise the endpoints of a pool would doubt each other without end
		defer time.AfterFunc(doubtAfter, e.doubt).Stop()
	}
	for _, asker := range e.askers() {
		ctx, cancel := context.WithTimeout(e.pool.ctx, signTimeout)
		_, _, err := asker.ask(ctx, e.pool.service)
		cancel()
		if err == nil || !unheard(err) || e.heard.Load() {
			return true
		}
	}
	return false
}

// unheard tells whether an error means that nobody answered. A failure on this
// side, such as a lack of file descriptors, shows nothing about the other side.
func unheard(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout() ||
		errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}

// cut ends the attempts that wait for a silent endpoint. No attempt is made there before
// the endpoint gives a sign of life.
func (e *Endpoint) cut() {
	e.pool.once.Warn("silent "+e.String(), "endpoint silent: its calls are cut", "service", e.pool.service, "endpoint", e, "calls", e.inflight.Load())
	e.connsMu.Lock()
	e.silent.Store(true)
	e.cuts.Add(1)
	conns := e.conns
	e.conns = map[*conn]struct{}{}
	e.connsMu.Unlock()
	e.eject()
	for c := range conns {
		_ = c.Close()
	}
}

// cutDead ends the attempts on connections that have lost their path, for example because a router has forgotten them. The endpoint may well answer on
// another connection, so it is not silent, and the next try uses a new connection.
func (e *Endpoint) cutDead() {
	e.connsMu.Lock()
	var dead []*conn
	for c := range e.conns {
		if raw, err := c.SyscallConn(); err == nil && unacknowledged(raw) {
			dead = append(dead, c)
		}
	}
	e.connsMu.Unlock()
	if len(dead) == 0 {
		return
	}
	e.pool.once.Warn("dead "+e.String(), "connections dead: their calls are cut", "service", e.pool.service, "endpoint", e, "connections", len(dead))
	for _, c := range dead {
		c.dead.Store(true)
		_ = c.Close()
	}
}

// addConn registers a connection for calls. It returns false when the endpoint is silent.
func (e *Endpoint) addConn(c *conn) bool {
	e.connsMu.Lock()
	defer e.connsMu.Unlock()
	if e.silent.Load() {
		return false
	}
	e.conns[c] = struct{}{}
	return true
}

func (e *Endpoint) removeConn(c *conn) {
	e.connsMu.Lock()
	defer e.connsMu.Unlock()
	if delete(e.conns, c); len(e.conns) == 0 {
		e.versions.doubt()
		e.others.forget()
	}
}
