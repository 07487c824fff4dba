package h2

import (
	"encoding/binary"
	"slices"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"holdline/internal/wire"
)

// took deals with one frame. Its payload is of no use afterwards. The error ends the connection.
func (l *link) took(kind http2.FrameType, flags http2.Flags, id uint32, payload []byte) error {
	if l.blockOf != 0 && (kind != http2.FrameContinuation || id != l.blockOf) {
		return broken(http2.ErrCodeProtocol, "%v within a block of headers", kind)
	}
	switch ofStream, size := sizes[kind].ofStream, sizes[kind].payload; {
	case ofStream != 0 && (ofStream > 0) != (id != 0):
		return broken(http2.ErrCodeProtocol, "%v on stream %d", kind, id)
	case size > 0 && len(payload) != size:
		return broken(http2.ErrCodeFrameSize, "%v of %d bytes", kind, len(payload))
	}
	switch kind {
	case http2.FrameData:
		return l.tookData(flags, id, payload)
	case http2.FrameHeaders:
		return l.tookHeaders(flags, id, payload)
	case http2.FrameContinuation:
		if l.blockOf == 0 {
			return broken(http2.ErrCodeProtocol, "%v without a block of headers", kind)
		}
		return l.tookFragment(flags, payload)
	case http2.FrameRSTStream:
		return l.tookReset(id, http2.ErrCode(binary.BigEndian.Uint32(payload)))
	case http2.FrameSettings:
		return l.tookSettings(flags, payload)
	case http2.FramePing:
		return l.tookPing(flags, payload)
	case http2.FrameGoAway:
		if len(payload) < 8 {
			return broken(http2.ErrCodeFrameSize, "%v of %d bytes", kind, len(payload))
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.role.goAway(binary.BigEndian.Uint32(payload)&maxWindow, http2.ErrCode(binary.BigEndian.Uint32(payload[4:])))
	case http2.FrameWindowUpdate:
		return l.tookCredit(id, int64(binary.BigEndian.Uint32(payload)&maxWindow))
	case http2.FramePriority:
		return dependsOnItself(id, payload)
	case http2.FramePushPromise:
		return broken(http2.ErrCodeProtocol, "%v, which is switched off", kind)
	}
	return nil // RFC 9113, section 4.1: unknown kinds are ignored
}

// sizes are the rules of RFC 9113, section 6: which kinds are of a stream (1), or of the connection (-1), and how long a payload is.
var sizes = [256]struct{ ofStream, payload int }{
	http2.FrameData: {1, 0}, http2.FrameHeaders: {1, 0}, http2.FramePriority: {1, 5}, http2.FrameRSTStream: {1, 4}, http2.FrameSettings: {-1, 0},
	http2.FramePing: {-1, 8}, http2.FrameGoAway: {-1, 0}, http2.FrameWindowUpdate: {0, 4}, http2.FrameContinuation: {1, 0},
}

// unpadded is the payload without its padding.
func unpadded(flags http2.Flags, payload []byte) ([]byte, error) {
	if !flags.Has(http2.FlagDataPadded) {
		return payload, nil
	}
	if len(payload) == 0 || len(payload) <= int(payload[0]) {
		return nil, broken(http2.ErrCodeProtocol, "more padding than payload")
	}
	return payload[1 : len(payload)-int(payload[0])], nil
}

// dependsOnItself refuses such a priority. All others are ignored.
func dependsOnItself(id uint32, priority []byte) error {
	if binary.BigEndian.Uint32(priority)&maxWindow == id {
		return broken(http2.ErrCodeProtocol, "stream %d depends on itself", id)
	}
	return nil
}

func (l *link) tookPing(flags http2.Flags, payload []byte) error {
	if flags.Has(http2.FlagPingAck) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frame(http2.FramePing, http2.FlagPingAck, 0, len(payload))
	l.out = append(l.out, payload...)
	return l.owes(frameHead + len(payload))
}

func (l *link) tookData(flags http2.Flags, id uint32, payload []byte) error {
	size := len(payload)
	body, err := unpadded(flags, payload)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room -= size; l.room < 0 {
		return broken(http2.ErrCodeFlowControl, "more DATA than the window of the connection takes")
	}
	f := l.streams[id]
	if f == nil || l.creditAtOnce {
		l.giveBack(size)
	}
	if f == nil {
		return l.gone(id, http2.FrameData)
	}
	l.note(f)
	if f.room -= size; f.room < 0 {
		return broken(http2.ErrCodeFlowControl, "more DATA than the window of its stream takes")
	}
	end := flags.Has(http2.FlagDataEndStream)
	f.read(size - len(body)) // nobody reads padding
	code, flaw := http2.ErrCodeProtocol, f.owner.data(len(body))
	switch {
	case f.whole:
		code, flaw = http2.ErrCodeStreamClosed, "DATA after its end"
	case flaw != "":
	case f.length >= 0 && int64(len(body)) > f.length, f.length >= 0 && end && int64(len(body)) < f.length:
		flaw = "its body is not as long as its content-length"
	}
	if flaw != "" {
		f.read(len(body)) // nobody reads this either
		l.refuse(f, code, flaw)
		return nil
	}
	if len(f.in)+len(body) > wire.MaxPlain {
		f.in = wire.Room(f.in, len(body))
	}
	f.in = append(f.in, body...)
	if f.length >= 0 {
		f.length -= int64(len(body))
	}
	if end {
		l.ended(f)
	}
	return nil
}

// giveBack has the other side get credit for bytes that it has sent; mu is held.
func (l *link) giveBack(n int) {
	if l.taken += n; l.taken >= l.linkWindow/4 {
		l.credit(0, l.taken)
		l.room += l.taken
		l.taken = 0
		l.flush()
	}
}

// gone deals with a frame of a stream that there is no more, or that there never was; mu is held.
func (l *link) gone(id uint32, kind http2.FrameType) error {
	if !l.role.opened(id) {
		return broken(http2.ErrCodeProtocol, "%v on stream %d, which is none", kind, id)
	}
	return l.role.closed(id, kind)
}

// note has those who wait for a stream told once all that was read has been dealt with.
func (l *link) note(f *flow) {
	if !f.told {
		f.told = true
		l.woken = append(l.woken, f)
	}
}

func (l *link) tookHeaders(flags http2.Flags, id uint32, payload []byte) error {
	fragment, err := unpadded(flags, payload)
	if err != nil {
		return err
	}
	if flags.Has(http2.FlagHeadersPriority) {
		if len(fragment) < 5 {
			return broken(http2.ErrCodeFrameSize, "headers without their priority")
		}
		if err := dependsOnItself(id, fragment); err != nil {
			return err
		}
		fragment = fragment[5:]
	}
	l.blockOf, l.blockE, l.block, l.blockN = id, flags.Has(http2.FlagHeadersEndStream), l.block[:0], 0
	return l.tookFragment(flags, fragment)
}

func (l *link) tookFragment(flags http2.Flags, fragment []byte) error {
	whole := flags.Has(http2.FlagHeadersEndHeaders)
	if l.blockN++; !whole || l.blockN > 1 {
		if l.block = append(l.block, fragment...); len(l.block) > l.maxBlock || l.blockN > maxFragments+l.maxBlock/maxFrame {
			return broken(http2.ErrCodeEnhanceYourCalm, "a block of headers without an end")
		}
		fragment = l.block
	}
	if !whole {
		return nil
	}
	id := l.blockOf
	l.blockOf = 0
	// A block is decoded whatever becomes of its stream: the ones after it build on it.
	room := rooms.Get().(*roomForFields)
	defer func() {
		room.giveBack()
		l.fields = nil
	}()
	l.fields, l.size = room[:0], 0
	if _, err := l.decoder.Write(fragment); err != nil {
		return broken(http2.ErrCodeCompression, "%v", err)
	}
	if err := l.decoder.Close(); err != nil {
		return broken(http2.ErrCodeCompression, "%v", err)
	}
	if cap(l.block) > maxKept {
		l.block = nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.role.headers(id, l.blockE)
}

// roomForFields is room for as many as most blocks have, or more.
type roomForFields [24]hpack.HeaderField

// rooms are those of blocks that were dealt with, of which nobody keeps the slice.
var rooms = sync.Pool{New: func() any { return new(roomForFields) }}

func (r *roomForFields) giveBack() {
	clear(r[:])
	rooms.Put(r)
}

// field takes a field that was decoded. Those beyond the limit are only counted.
func (l *link) field(f hpack.HeaderField) {
	if l.size += int(f.Size()); l.size <= l.maxSize {
		l.fields = append(l.fields, f)
	}
}

// refuse ends a stream in which the other side has not kept to the protocol; mu is held.
func (l *link) refuse(f *flow, code http2.ErrCode, flaw string) {
	l.reset(f.id, code)
	f.fail(malformed(f.id, code, flaw))
	l.remove(f)
}

// ended is for a stream of which the other side has sent all; mu is held.
func (l *link) ended(f *flow) {
	f.whole = true
	f.owner.ended()
}

// remove forgets a stream; mu is held.
func (l *link) remove(f *flow) {
	delete(l.streams, f.id)
	if !l.creditAtOnce {
		l.giveBack(len(f.in) - f.at)
	}
	if !f.sent {
		f.sent = true
		l.moved.Broadcast()
	}
	f.owner.removed()
	if len(l.streams) == 0 {
		l.role.emptied()
	}
}

func (l *link) tookReset(id uint32, code http2.ErrCode) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.streams[id]
	if f == nil {
		return l.gone(id, http2.FrameRSTStream)
	}
	l.note(f)
	f.fail(http2.StreamError{StreamID: id, Code: code})
	l.remove(f)
	return nil
}

func (l *link) tookSettings(flags http2.Flags, payload []byte) error {
	ack := flags.Has(http2.FlagSettingsAck)
	switch {
	case len(payload)%6 != 0, ack && len(payload) > 0:
		return broken(http2.ErrCodeFrameSize, "SETTINGS of %d bytes", len(payload))
	case ack:
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for setting := range slices.Chunk(payload, 6) {
		s := http2.Setting{ID: http2.SettingID(binary.BigEndian.Uint16(setting)), Val: binary.BigEndian.Uint32(setting[2:])}
		if err := s.Valid(); err != nil {
			return err //nolint:wrapcheck // a ConnectionError
		}
		switch s.ID {
		case http2.SettingInitialWindowSize:
			for _, f := range l.streams {
				if f.window += int64(s.Val) - l.initial; f.window > maxWindow {
					return broken(http2.ErrCodeFlowControl, "an initial window that is too large")
				}
			}
			l.initial = int64(s.Val)
		case http2.SettingHeaderTableSize:
			l.encoder.limit(s.Val)
		default:
			l.role.setting(s.ID, s.Val)
		}
	}
	l.greeted = true
	l.moved.Broadcast()
	l.frame(http2.FrameSettings, http2.FlagSettingsAck, 0, 0)
	return l.owes(frameHead)
}

func (l *link) tookCredit(id uint32, n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id == 0 {
		l.window += n
		if code, ok := badCredit(n, l.window); !ok {
			return broken(code, "a credit of %d bytes for %d", n, l.window)
		}
		l.moved.Broadcast()
		return nil
	}
	f := l.streams[id]
	if f == nil {
		return l.gone(id, http2.FrameWindowUpdate)
	}
	f.window += n
	if code, ok := badCredit(n, f.window); !ok {
		l.note(f)
		l.refuse(f, code, "a credit that its window does not take")
	} else if !f.sent {
		l.moved.Broadcast()
	}
	return nil
}

// badCredit is what is wrong with a credit of n bytes that makes a window; true: nothing.
func badCredit(n, window int64) (http2.ErrCode, bool) {
	switch {
	case n == 0:
		return http2.ErrCodeProtocol, false
	case window > maxWindow:
		return http2.ErrCodeFlowControl, false
	}
	return 0, true
}
