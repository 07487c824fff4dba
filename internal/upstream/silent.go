package upstream

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// A process that is frozen, or a node that is cut off, closes no connection: it only stops to answer.
// An endpoint that has calls and sends nothing on any connection for a while is
// asked for its health, on another connection. Two such questions without a sign of
// life make it silent, about 3 s after the last one. While the first of them is not
// answered the others of the pool are asked as well: what cuts one off often cuts
// off those beside it, and a call that is tried there next must not wait all over.
const (
	watchPause    = 250 * time.Millisecond
	firstPatience = time.Second     // from the last sign of life to the question
	maxPatience   = 4 * time.Second // of calls that are slow, or streams that are quiet: the endpoint has answered before
	signTimeout   = time.Second
	doubtAfter    = 250 * time.Millisecond // from the question to those for the others
	pathPause     = time.Second            // between two looks for dead connections
)

// begin counts an attempt in, and has the endpoint watched as long as there are any.
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

// hear takes note of a sign of life.
func (e *Endpoint) hear() {
	if !e.heard.Load() { // rarely written, so that connections do not fight for it
		e.heard.Store(true)
	}
	if e.silent.Load() {
		e.silent.Store(false)
	}
}

// doubt has the pool's other endpoints asked at once: those without calls, and those
// with calls that have been quiet for long. All other endpoints are asked in their own time, since a service that does
// one thing at a time answers nobody while it has a call.
func (e *Endpoint) doubt() {
	for _, other := range *e.pool.endpoints.Load() {
		if other != e {
			other.doubted.Store(true)
			other.beWatched()
		}
	}
}

// watch listens as long as there are calls, and asks when it hears nothing.
func (e *Endpoint) watch() {
	e.heard.Store(false)
	quiet, patience, begun := time.Duration(0), firstPatience, e.begun.Load()
	var looked time.Time
	for e.doubted.Load() || e.pool.sleep(watchPause) {
		if time.Since(looked) >= pathPause { // before it goes: attempts that are short end, and begin again
			e.cutDead()
			looked = time.Now()
		}
		doubted, idle := e.doubted.Swap(false), e.inflight.Load() == 0
		if idle && !doubted {
			break
		}
		heard := e.heard.Swap(false)
		if heard || e.silent.Load() { // readmit asks a silent one
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
	// An attempt that began meanwhile, or a doubt, has seen that the endpoint is watched.
	if (e.inflight.Load() > 0 || e.doubted.Load()) && e.pool.ctx.Err() == nil && e.watched.CompareAndSwap(false, true) {
		e.pool.spawn(e.watch)
	}
}

// givesSign asks for the endpoint's health, over HTTP/2 and then over HTTP/1.1: a
// server that knows only one of them may meet the other with silence. Any byte is a
// sign of life, on any connection, and so is a connection that is refused or
// closed. A connection that is accepted is no sign: the kernel accepts it, for a frozen process too.
func (e *Endpoint) givesSign(doubted bool) bool {
	if !doubted { // else the endpoints of a pool would make each other ask without end
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

// unheard tells an error that only says that nobody answered. What fails on this
// side, such as a lack of file descriptors, says nothing about the other.
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

// cutDead ends the attempts on connections that have lost their path, as when a router forgets them. The endpoint may well answer on
// another one, so it is not silent, and what is tried next has a new connection.
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

// addConn keeps a connection of calls in mind; false when the endpoint is silent.
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
