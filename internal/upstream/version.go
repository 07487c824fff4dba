package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
)

// HTTP is the version of HTTP that a service speaks according to its route.
type HTTP uint8

// AnyHTTP: the pool finds out what the endpoints speak.
const (
	AnyHTTP HTTP = iota
	OnlyHTTP1
	OnlyHTTP2
)

// wrongVersion is the cause of an attempt in a version that the endpoint does not speak.
const wrongVersion = "http-version"

var errVersion = errors.New("the endpoint does not speak this version of HTTP")

// versions are the versions of HTTP that an endpoint speaks, as far as we have seen. We need not
// ask: a server of HTTP/2 sends its SETTINGS before anything else, so the first byte of a
// connection shows the version, and under TLS the handshake does. A request in a version that the server does not speak was
// not understood, so nothing ran.
type versions struct {
	only HTTP
	// For HTTP/1.1 and HTTP/2: whether the server has shown that it speaks the version (yes), or that it does not (no). Both are forgotten with the last connection.
	yes, no [2]atomic.Bool
}

// of is the index of a version in yes and no.
func of(major int) int { return min(max(major, 1), 2) - 1 }

func (v *versions) allowed(major int) bool {
	return v.only == AnyHTTP || v.only == OnlyHTTP1 && major == 1 || v.only == OnlyHTTP2 && major == 2
}

// speaks tells whether a request may be sent in a version.
func (v *versions) speaks(major int) bool { return v.allowed(major) && !v.no[of(major)].Load() }

// show records whether the endpoint speaks a version.
func (v *versions) show(major int, spoken bool) {
	if v.yes[of(major)].Load() != spoken || v.no[of(major)].Load() == spoken {
		v.yes[of(major)].Store(spoken)
		v.no[of(major)].Store(!spoken)
	}
}

// doubt forgets everything. It is called when no connections are left: another server may listen there next.
func (v *versions) doubt() {
	for i := range v.yes {
		v.yes[i].Store(false)
		v.no[i].Store(false)
	}
}

// pick is the version in which a call is sent: the caller's version, unless the endpoint speaks only the other
// one. It is 0 for gRPC if the endpoint does not speak HTTP/2.
func (v *versions) pick(major int, needs2 bool) int {
	major = of(major) + 1
	other := 3 - major
	switch {
	case needs2 && (!v.allowed(2) || v.no[of(2)].Load() && v.yes[of(1)].Load()):
		return 0
	case needs2:
		return 2
	case !v.allowed(major), !v.speaks(major) && v.speaks(other):
		return other
	}
	return major
}

// settingsFrame is the beginning of what an HTTP/2 server sends: the head of a SETTINGS frame without its length field, which comes before it. The length is that of the entries, 6 bytes each (RFC 9113, 6.5).
var settingsFrame = []byte{0x4, 0, 0, 0, 0, 0} // its type, without flags, on no stream

// greeted reads the first bytes of a connection without TLS. An HTTP/2 server sends SETTINGS before anything else. The first byte of this
// frame is 0, so a server that begins with another byte does not speak HTTP/2. Over HTTP/1.1 a first byte of 0 proves nothing: a server that has
// run the call may answer with it. There greeted looks for the whole head of the frame.
func (c *conn) greeted(begin []byte) {
	const ofFrame, ofStatus, ofLength, entry = 0, 'H', 3, 6
	v := &c.endpoint.versions
	settings := begin[0] == ofFrame && len(begin) >= ofLength+len(settingsFrame) && bytes.HasPrefix(begin[ofLength:], settingsFrame) &&
		binary.BigEndian.Uint16(begin[1:])%entry == 0
	switch {
	case c.major == 1 && settings, c.major == 2 && begin[0] != ofFrame:
		c.foreign.Store(true)
		v.show(c.major, false)
		if c.major == 1 || begin[0] == ofStatus {
			v.show(3-c.major, true)
		}
	case c.major != 0:
		c.endpoint.speaks(c.major)
	}
}

// speaks records that the endpoint speaks a version.
func (e *Endpoint) speaks(major int) {
	if e.versions.show(major, true); major == 2 {
		e.pool.lacksHTTP2.note(false)
	}
}

// awaitGreeting has a call on a new connection wait for the server's first bytes, which show whether it speaks HTTP/2.
func (e *Endpoint) awaitGreeting(ctx context.Context, trace *httptrace.ClientTrace) *httptrace.ClientTrace {
	return onConn(trace, func(info httptrace.GotConnInfo) {
		if c := connOf(info); c != nil {
			select {
			case <-c.first:
			case <-c.closed:
			case <-ctx.Done():
			}
		}
	})
}

// onlyHTTP2 is called when a call over HTTP/1.1 broke at an endpoint that has never shown that it speaks HTTP/1.1. Some
// servers close a connection in a version that they do not speak. So we ask the endpoint for its health. If it
// answers over HTTP/2, and breaks off over HTTP/1.1, then it has not understood the call either. It has to
// answer over HTTP/2 before and after that, on the same connection: this shows that it did not break off because it was restarted.
func (e *Endpoint) onlyHTTP2(ctx context.Context) bool {
	if !e.versions.speaks(2) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	transport := e.asking[of(2)].transport.Clone()
	transport.DisableKeepAlives = false
	defer transport.CloseIdleConnections()
	asker := newAsker(transport, e.url, connect.WithGRPC())
	var conns sync.Map // a set
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { conns.Store(info.Conn, nil) }})
	answers := func() bool {
		_, status, _ := asker.ask(traced, e.pool.service)
		n := 0
		conns.Range(func(any, any) bool { n++; return true })
		return status != 0 && n == 1
	}
	if !answers() {
		return false
	}
	_, status, err := e.asking[of(1)].ask(ctx, e.pool.service)
	// If ctx has ended meanwhile, the question was cut short, and shows nothing.
	return status == 0 && err != nil && ctx.Err() == nil && hungUp(causeOf(err)) && answers()
}

// OnlyHTTP1 asks an endpoint for its health, and tells whether it answers over HTTP/1.1 and not over HTTP/2. It is for endpoints that have not shown yet which version they speak.
func (e *Endpoint) OnlyHTTP1(ctx context.Context) bool {
	if !e.versions.allowed(1) {
		return false
	}
	half, cancel := ctx, context.CancelFunc(func() {})
	if deadline, ok := ctx.Deadline(); ok { // the server may not answer the first question at all
		half, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
	}
	defer cancel()
	_, overHTTP2, _ := newAsker(e.asking[of(2)].transport.Clone(), e.url, connect.WithGRPC()).ask(half, e.pool.service)
	if overHTTP2 != 0 {
		return false
	}
	_, overHTTP1, _ := e.asking[of(1)].ask(ctx, e.pool.service)
	return overHTTP1 != 0
}

// hungUp tells whether a cause means that there was a connection, and that the other side ended it
// or sent something that is not HTTP.
func hungUp(cause string) bool { return cause == "closed" || cause == "reset" || cause == "connection" }

// onConn has a trace do something first when there is a connection. There may be no trace yet.
func onConn(trace *httptrace.ClientTrace, do func(httptrace.GotConnInfo)) *httptrace.ClientTrace {
	if trace == nil {
		trace = new(httptrace.ClientTrace)
	}
	then := trace.GotConn
	trace.GotConn = func(info httptrace.GotConnInfo) {
		do(info)
		if then != nil {
			then(info)
		}
	}
	return trace
}

// negotiated checks that a TLS handshake has agreed on HTTP/2. Without this, net/http would speak HTTP/1.1
// with a server that does not negotiate.
func negotiated(state tls.ConnectionState) error {
	if state.NegotiatedProtocol != "h2" {
		return errVersion
	}
	return nil
}

// errNoProtocol is the alert of a server that speaks none of the versions that we offer.
const errNoProtocol tls.AlertError = 120

// foreign tells whether an attempt failed because the endpoint does not speak its version.
func (s *sent) foreign(err error) bool {
	if c := s.conn.Load(); c != nil && c.foreign.Load() {
		return true
	}
	return errors.Is(err, errVersion) || strings.HasSuffix(err.Error(), errNoProtocol.Error())
}
