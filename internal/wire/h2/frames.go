package h2

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// took deals with one frame. Its payload is of no use afterwards. The error ends the connection.
func (c *conn) took(kind http2.FrameType, flags http2.Flags, id uint32, payload []byte) error {
	if c.blockOf != 0 && (kind != http2.FrameContinuation || id != c.blockOf) {
		return broken(http2.ErrCodeProtocol, "%v within a block of headers", kind)
	}
	switch kind {
	case http2.FrameData:
		return c.tookData(flags, id, payload)
	case http2.FrameHeaders:
		return c.tookHeaders(flags, id, payload)
	case http2.FrameContinuation:
		if c.blockOf == 0 {
			return broken(http2.ErrCodeProtocol, "%v without a block of headers", kind)
		}
		return c.tookFragment(flags, payload)
	case http2.FrameRSTStream:
		if len(payload) != 4 {
			return broken(http2.ErrCodeFrameSize, "%v of %d bytes", kind, len(payload))
		}
		return c.tookReset(id, http2.ErrCode(binary.BigEndian.Uint32(payload)))
	case http2.FrameSettings:
		return c.tookSettings(flags, id, payload)
	case http2.FramePing:
		switch {
		case len(payload) != 8:
			return broken(http2.ErrCodeFrameSize, "%v of %d bytes", kind, len(payload))
		case id != 0:
			return broken(http2.ErrCodeProtocol, "%v on a stream", kind)
		case flags.Has(http2.FlagPingAck):
			return nil
		}
		return c.owe(http2.FramePing, http2.FlagPingAck, payload)
	case http2.FrameGoAway:
		if len(payload) < 8 || id != 0 {
			return broken(http2.ErrCodeProtocol, "a malformed %v", kind)
		}
		c.tookGoAway(binary.BigEndian.Uint32(payload)&maxWindow, http2.ErrCode(binary.BigEndian.Uint32(payload[4:])))
	case http2.FrameWindowUpdate:
		if len(payload) != 4 {
			return broken(http2.ErrCodeFrameSize, "%v of %d bytes", kind, len(payload))
		}
		return c.tookCredit(id, int64(binary.BigEndian.Uint32(payload)&maxWindow))
	case http2.FramePushPromise:
		return broken(http2.ErrCodeProtocol, "%v, which is switched off", kind)
	}
	return nil // RFC 9113, section 4.1: unknown kinds are ignored, and so are priorities
}

// owe appends what a server has asked for. One who asks and does not read is cut off.
func (c *conn) owe(kind http2.FrameType, flags http2.Flags, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frame(kind, flags, 0, len(payload))
	c.out = append(c.out, payload...)
	if c.owed += frameHead + len(payload); c.owed > maxOwed {
		return broken(http2.ErrCodeEnhanceYourCalm, "the server does not read what it asks for")
	}
	return nil
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

func (c *conn) tookData(flags http2.Flags, id uint32, payload []byte) error {
	size := len(payload)
	body, err := unpadded(flags, payload)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken += size; c.taken >= connWindow/4 {
		c.credit(0, c.taken)
		c.taken = 0
	}
	s, err := c.stream(id, http2.FrameData)
	if s == nil {
		return err
	}
	c.note(s)
	if s.room -= size; s.room < 0 {
		return broken(http2.ErrCodeFlowControl, "more DATA than its window takes")
	}
	s.owed += size - len(body) // nobody reads padding
	switch end := flags.Has(http2.FlagDataEndStream); {
	case s.head == nil, s.bare && len(body) > 0:
		c.refuse(s, "DATA where there is none")
	case s.length >= 0 && int64(len(body)) > s.length, s.length >= 0 && end && int64(len(body)) < s.length:
		c.refuse(s, "its body is not as long as its content-length")
	default:
		if s.length >= 0 {
			s.length -= int64(len(body))
		}
		s.in = append(s.in, body...)
		if end {
			c.ended(s)
		}
	}
	return nil
}

// stream is the one of an id. A stream that we have ended, or that has ended, is nil; one that never was is an error. mu is held.
func (c *conn) stream(id uint32, kind http2.FrameType) (*stream, error) {
	if s := c.streams[id]; s != nil {
		return s, nil
	}
	if id == 0 || id%2 == 0 || id >= c.next {
		return nil, broken(http2.ErrCodeProtocol, "%v on stream %d, which is none", kind, id)
	}
	return nil, nil
}

// note has those who wait for a stream told once all that was read has been dealt with.
func (c *conn) note(s *stream) {
	if !s.told {
		s.told = true
		c.woken = append(c.woken, s)
	}
}

func (c *conn) tookHeaders(flags http2.Flags, id uint32, payload []byte) error {
	fragment, err := unpadded(flags, payload)
	if err != nil {
		return err
	}
	if flags.Has(http2.FlagHeadersPriority) {
		if len(fragment) < 5 {
			return broken(http2.ErrCodeFrameSize, "headers without their priority")
		}
		fragment = fragment[5:]
	}
	c.blockOf, c.blockE, c.block, c.blockN = id, flags.Has(http2.FlagHeadersEndStream), c.block[:0], 0
	return c.tookFragment(flags, fragment)
}

func (c *conn) tookFragment(flags http2.Flags, fragment []byte) error {
	whole := flags.Has(http2.FlagHeadersEndHeaders)
	if c.blockN++; !whole || c.blockN > 1 {
		if c.block = append(c.block, fragment...); len(c.block) > maxBlock || c.blockN > maxFragments {
			return broken(http2.ErrCodeEnhanceYourCalm, "a block of headers without an end")
		}
		fragment = c.block
	}
	if !whole {
		return nil
	}
	id := c.blockOf
	c.blockOf = 0
	// A block is decoded whatever becomes of its stream: the ones after it build on it.
	c.fields, c.size = c.fields[:0], 0
	if _, err := c.decoder.Write(fragment); err != nil {
		return broken(http2.ErrCodeCompression, "%v", err)
	}
	if err := c.decoder.Close(); err != nil {
		return broken(http2.ErrCodeCompression, "%v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.stream(id, http2.FrameHeaders)
	if s == nil {
		return err
	}
	c.note(s)
	if c.size > maxHeaderBytes {
		c.refuse(s, "its headers are too large")
		return nil
	}
	if flaw := s.take(c.fields, c.blockE); flaw != "" {
		c.refuse(s, flaw)
	} else if c.blockE {
		if s.length > 0 {
			c.refuse(s, "its body is not as long as its content-length")
			return nil
		}
		c.ended(s)
	}
	return nil
}

// field takes a field that was decoded. Those beyond the limit are only counted.
func (c *conn) field(f hpack.HeaderField) {
	if c.size += int(f.Size()); c.size <= maxHeaderBytes {
		c.fields = append(c.fields, f)
	}
}

// refuse ends a stream that the server has not kept to the protocol in; mu is held.
func (c *conn) refuse(s *stream, flaw string) {
	c.reset(s.id, http2.ErrCodeProtocol)
	c.remove(s)
	s.end(http2.StreamError{StreamID: s.id, Code: http2.ErrCodeProtocol, Cause: errors.New("http2: a malformed response: " + flaw)})
}

// ended is for a stream that the server has ended; mu is held. What its caller still has to say, nobody will read.
func (c *conn) ended(s *stream) {
	s.whole = true
	if !s.sent {
		c.reset(s.id, http2.ErrCodeNo)
	}
	c.remove(s)
}

// remove forgets a stream; mu is held.
func (c *conn) remove(s *stream) {
	delete(c.streams, s.id)
	s.cutShort()
	if len(c.streams) > 0 {
		return
	}
	if c.used = time.Now(); c.leaving {
		go c.fail(errIdle) // its last frames are not written yet
	}
}

func (c *conn) tookReset(id uint32, code http2.ErrCode) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.stream(id, http2.FrameRSTStream)
	if s == nil {
		return err
	}
	c.note(s)
	c.remove(s)
	s.end(http2.StreamError{StreamID: id, Code: code})
	return nil
}

func (c *conn) tookSettings(flags http2.Flags, id uint32, payload []byte) error {
	ack := flags.Has(http2.FlagSettingsAck)
	if id != 0 || len(payload)%6 != 0 || ack && len(payload) > 0 {
		return broken(http2.ErrCodeFrameSize, "malformed SETTINGS")
	}
	if ack {
		return nil
	}
	c.mu.Lock()
	if !c.greeted {
		c.limit = maxWindow // it says none, then
	}
	for setting := range slices.Chunk(payload, 6) {
		value := binary.BigEndian.Uint32(setting[2:])
		switch http2.SettingID(binary.BigEndian.Uint16(setting)) {
		case http2.SettingInitialWindowSize:
			if value > maxWindow {
				c.mu.Unlock()
				return broken(http2.ErrCodeFlowControl, "an initial window of %d bytes", value)
			}
			for _, s := range c.streams {
				s.window += int64(value) - c.initial
			}
			c.initial = int64(value)
		case http2.SettingMaxConcurrentStreams:
			c.limit = value
		case http2.SettingMaxHeaderListSize:
			c.maxFields = uint64(value)
		case http2.SettingHeaderTableSize:
			c.encoder.SetMaxDynamicTableSizeLimit(value)
			c.encoder.SetMaxDynamicTableSize(min(value, firstTableSize))
		}
	}
	c.greeted = true
	c.moved.Broadcast()
	c.mu.Unlock()
	return c.owe(http2.FrameSettings, http2.FlagSettingsAck, nil)
}

func (c *conn) tookGoAway(last uint32, code http2.ErrCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, s := range c.streams {
		if id > last { // RFC 9113, section 6.8: nothing has been done with them
			c.note(s)
			delete(c.streams, id)
			s.cutShort()
			s.end(http2.StreamError{StreamID: id, Code: http2.ErrCodeRefusedStream, Cause: http2.ConnectionError(code)})
		}
	}
	if c.leaving = true; len(c.streams) == 0 {
		go c.fail(errLost)
	}
}

func (c *conn) tookCredit(id uint32, n int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == 0 {
		if c.window += n; n == 0 || c.window > maxWindow {
			return broken(http2.ErrCodeFlowControl, "a credit of %d bytes for %d", n, c.window)
		}
		c.moved.Broadcast()
		return nil
	}
	s, err := c.stream(id, http2.FrameWindowUpdate)
	if s == nil {
		return err
	}
	if s.window += n; n == 0 || s.window > maxWindow {
		c.note(s)
		c.refuse(s, "a credit that its window does not take")
		return nil
	}
	if !s.sent {
		c.moved.Broadcast()
	}
	return nil
}
