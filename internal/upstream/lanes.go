package upstream

import (
	"net/http"
	"slices"
	"sync"
)

const (
	// connWindow is what an HTTP/2 server lets a connection send before it reads
	// any of it, in bytes of all bodies together: at least as much as RFC 9113,
	// section 6.9.2, starts every connection with.
	connWindow = 65535
	// maxLaneCalls bounds the calls of a connection. net/http takes up to 4 MiB of a
	// response that its caller does not read, and 1 GiB of all those of a connection.
	maxLaneCalls = 250
	// maxIdleLanes is how many connections without calls are kept for the next ones.
	maxIdleLanes = 16
)

// lanes are the HTTP/2 connections of an endpoint. All bodies on a connection share
// its window, and a body that the service does not read keeps its part of it. So a
// connection is given no more bytes than the window has at least: whatever one
// caller sends, and however slowly the service reads, the others' calls can pass.
// A body of unknown length may have any, and has a connection to itself until it
// has ended.
type lanes struct {
	open func() *http.Transport

	mu   sync.Mutex
	room []*lane // those that may take another call, in the order in which they are filled
}

// lane is one connection; more when the service allows fewer streams on one.
type lane struct {
	*http.Transport
	calls  int
	unread int // bytes that the service may not have read yet
	full   bool
}

// seat is the place of one call on a lane.
type seat struct {
	*lane
	lanes *lanes
	bytes int // part of the lane's unread
}

// take finds a place for a call with a body of that many bytes; -1 when their
// number is unknown.
func (l *lanes) take(bytes int64) *seat {
	need := connWindow
	if 0 <= bytes && bytes < connWindow {
		need = int(bytes)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.room, func(lane *lane) bool { return lane.unread+need <= connWindow })
	if i < 0 {
		i = len(l.room)
		l.room = append(l.room, &lane{Transport: l.open()})
	}
	lane := l.room[i]
	lane.calls++
	lane.unread += need
	if lane.full = lane.unread == connWindow || lane.calls == maxLaneCalls; lane.full {
		l.room = slices.Delete(l.room, i, i+1)
	}
	return &seat{lane: lane, lanes: l, bytes: need}
}

// ended says that the call's body has ended, and how many bytes of it the service
// may not have read.
func (s *seat) ended(bytes int) {
	s.lanes.mu.Lock()
	defer s.lanes.mu.Unlock()
	s.release(bytes)
}

// release keeps at most that many bytes of the call; lanes.mu is held.
func (s *seat) release(bytes int) {
	if bytes >= s.bytes {
		return
	}
	s.unread -= s.bytes - bytes
	s.bytes = bytes
	s.reopen()
}

// reopen lets the lane take calls again; lanes.mu is held.
func (s *seat) reopen() {
	if s.full && s.calls < maxLaneCalls && s.unread < connWindow {
		s.full = false
		s.lanes.room = append(s.lanes.room, s.lane)
	}
}

// leave ends the call.
func (s *seat) leave() {
	l := s.lanes
	l.mu.Lock()
	defer l.mu.Unlock()
	s.calls--
	s.release(0)
	s.reopen()
	if s.calls > 0 {
		return
	}
	idle := 0
	for _, lane := range l.room {
		if lane.calls == 0 {
			idle++
		}
	}
	if idle > maxIdleLanes {
		l.room = slices.DeleteFunc(l.room, func(lane *lane) bool { return lane == s.lane })
		s.CloseIdleConnections()
	}
}

// close drops idle connections.
func (l *lanes) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lane := range l.room {
		lane.CloseIdleConnections()
	}
}
