package upstream

import (
	"slices"
	"sync"
)

const (
	// connWindow is how many bytes an HTTP/2 server lets a connection send, in all
	// bodies together, before the server reads any of them: at least the initial window of RFC 9113,
	// section 6.9.2.
	connWindow = 65535
	// maxLaneCalls bounds the calls of a connection. net/http takes up to 4 MiB of a
	// response that its caller does not read, and 1 GiB of all those of a connection.
	// Our own servers take 250 by default, and warn of a connection that has as many: so a gateway asks for fewer.
	maxLaneCalls = 240
	// maxIdleLanes is how many connections without calls are kept for the next ones.
	maxIdleLanes = 16
)

// lanes are the HTTP/2 connections of an endpoint. All bodies on a connection share
// its window, and a body that the service does not read keeps its part of the window. So a
// connection never gets more bytes than the smallest window: whatever one
// caller sends, and however slowly the service reads, the others' calls can pass.
// A body of unknown length may need the whole window. Until such a body has ended it shares its connection
// only with other such bodies from the same connection of a caller.
type lanes struct {
	open func() transport

	mu    sync.Mutex
	gone  bool             // connections close when their calls end
	room  []*lane          // lanes that may take another call, in the order in which they are filled
	owned map[string]*lane // by the caller's connection whose uploads they have
}

// lane is one connection, or several if the service allows fewer streams on one connection.
type lane struct {
	transport
	calls   int
	uploads int    // calls whose bodies may have any length
	owner   string // the caller's connection that they come from
	alone   bool   // its call shares the lane with no other call
	unread  int    // bytes of other bodies that the service may not have read yet
	listed  bool   // in room
}

// seat is the place of one call on a lane.
type seat struct {
	*lane
	lanes  *lanes
	upload bool
	bytes  int // part of the lane's unread
}

// take finds a place for a call with a body of that many bytes.
func (l *lanes) take(bytes int) *seat { return l.place(new(seat), bytes) }

// place is take for a seat that the caller has allocated.
func (l *lanes) place(s *seat, bytes int) *seat {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.room, func(lane *lane) bool { return lane.unread+bytes <= connWindow })
	*s = seat{lane: l.at(i), lanes: l, bytes: bytes}
	s.calls++
	s.unread += bytes
	l.list(s.lane)
	return s
}

// takeAlone finds a place on a lane that the call shares with no other call until it has ended.
func (l *lanes) takeAlone() *seat {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &seat{lane: l.at(slices.IndexFunc(l.room, func(lane *lane) bool { return lane.calls == 0 })), lanes: l}
	s.calls, s.alone = 1, true
	l.list(s.lane)
	return s
}

// takeUpload finds a place for a call whose body may have any length. The owner is
// the caller's connection that the call comes from; if it is empty, the call shares its lane with no other call.
func (l *lanes) takeUpload(owner string) *seat {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := l.owned[owner]
	if own == nil || own.calls >= maxLaneCalls {
		own = l.at(slices.IndexFunc(l.room, func(lane *lane) bool { return lane.unread == 0 }))
		if own.owner = owner; owner != "" {
			l.owned[owner] = own
		}
	}
	s := &seat{lane: own, lanes: l, upload: true}
	s.calls++
	s.uploads++
	l.list(s.lane)
	return s
}

// at returns a lane of those with room, or a new one; mu is held.
func (l *lanes) at(i int) *lane {
	if i >= 0 {
		return l.room[i]
	}
	return &lane{transport: l.open()}
}

// list updates room when a lane has changed; mu is held.
func (l *lanes) list(lane *lane) {
	if lane.uploads == 0 && l.owned[lane.owner] == lane {
		delete(l.owned, lane.owner)
	}
	room := !lane.alone && lane.uploads == 0 && lane.unread < connWindow && lane.calls < maxLaneCalls
	switch {
	case room && !lane.listed:
		l.room = append(l.room, lane)
	case !room && lane.listed:
		i := slices.Index(l.room, lane)
		l.room = slices.Delete(l.room, i, i+1)
	}
	lane.listed = room
}

// ended is called when the call's body has ended; bytes is how many bytes of it the service
// may not have read yet.
func (s *seat) ended(bytes int) {
	s.lanes.mu.Lock()
	defer s.lanes.mu.Unlock()
	switch {
	case s.upload && bytes < connWindow:
		s.upload = false
		s.uploads--
	case s.upload || bytes >= s.bytes:
		return
	}
	s.unread += bytes - s.bytes
	s.bytes = bytes
	s.lanes.list(s.lane)
}

// leave ends the call.
func (s *seat) leave() {
	s.ended(0)
	l := s.lanes
	l.mu.Lock()
	defer l.mu.Unlock()
	s.calls--
	s.alone = false
	l.list(s.lane)
	if s.calls > 0 {
		return
	}
	idle := 0
	for _, lane := range l.room {
		if lane.calls == 0 {
			idle++
		}
	}
	if idle > maxIdleLanes || l.gone {
		l.room = slices.DeleteFunc(l.room, func(lane *lane) bool { return lane == s.lane })
		s.CloseIdleConnections()
	}
}

// close drops idle connections, and those in use when their calls end.
func (l *lanes) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
	for _, lane := range l.room {
		lane.CloseIdleConnections()
	}
}
