package h2

import (
	"context"
	"net"
	"net/http"
	"slices"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"holdline/internal/wire"
)

// servePlain offers the call to the server's Plain, if it is plain.
func (c *call) servePlain() (*wire.Response, http.Handler) {
	plain := c.caller.server.Plain
	if plain == nil || c.url != nil || c.pseudo[0] != http.MethodPost || c.asks.Load() {
		return nil, nil
	}
	c.plain = wire.Request{Major: 2, Authority: c.host(), Path: c.pseudo[3], Header: c.fields, Caller: c}
	return plain(&c.plain)
}

// News implements wire.Caller.
func (c *call) News() <-chan struct{} { return c.news }

// Context implements wire.Holding.
func (c *call) Context(most time.Duration) context.Context {
	ctx := c.context(most)
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.fields, c.plain.Header = nil, nil
	return ctx
}

// context returns the context of the call, once. It ends after that long, where 0 is without end.
func (c *call) context(most time.Duration) context.Context {
	var ctx context.Context
	var end context.CancelFunc
	if most > 0 {
		ctx, end = context.WithTimeout(c.caller.ctx, most)
	} else {
		ctx, end = context.WithCancel(c.caller.ctx)
	}
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if c.end = end; !c.live() {
		end()
	}
	return ctx
}

// Body implements wire.Caller.
func (c *call) Body(most time.Duration) ([]byte, bool) {
	var timer *time.Timer
	defer func() { wire.PutTimer(timer) }()
	for {
		select {
		case <-c.news: // of what is looked at now
		default:
		}
		c.l.mu.Lock()
		plain, whole, body := c.live() && c.trailers == nil && len(c.in) <= wire.MaxPlain, c.whole, c.in
		c.lent = whole && plain
		c.l.mu.Unlock()
		if whole || !plain {
			return body, plain
		}
		if timer == nil {
			timer = wire.GetTimer(most)
		}
		select {
		case <-c.news:
		case <-timer.C:
			return nil, false
		}
	}
}

// respond sends a response; mu is held, but not while it waits.
func (c *call) respond(res *wire.Response) {
	l := c.l
	c.status = res.Status
	if !res.Until.IsZero() && (len(l.out) > maxUnwritten || int64(len(res.Body)) > min(l.window, c.window)) {
		l.mu.Unlock()
		_ = c.SetWriteDeadline(res.Until) // it may have to wait
		l.mu.Lock()
	}
	if !c.waitForWriter() {
		return
	}
	c.sentHead = true
	flags := http2.Flags(0)
	switch {
	case len(res.Body) > 0:
	case len(res.Trailers) == 0:
		flags, c.sent = http2.FlagHeadersEndStream, true
	default: // for nginx a length of 0 would end it before its trailers
		res.Header = slices.DeleteFunc(res.Header, func(f hpack.HeaderField) bool { return f.Name == "content-length" })
	}
	l.newBlock()
	l.add(":status", statusCode(res.Status))
	l.addAll(res.Header)
	l.headerBlock(c.id, flags)
	if len(res.Body) > 0 {
		c.push(res.Body, len(res.Trailers) == 0)
	}
	if c.sent {
		return
	}
	l.newBlock()
	l.addAll(res.Trailers)
	l.headerBlock(c.id, http2.FlagHeadersEndStream)
	c.sent = true
}

// Begin implements wire.PlainClient.
func (t *Transport) Begin(req *wire.Request) wire.Exchange {
	c := t.pick()
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	length, pseudo := int64(len(req.Body)), pseudoFields(req.Authority, http.MethodPost, req.Path, req.Scheme)
	switch {
	case !c.answered, !c.room(), length > min(maxFrame, c.window, c.initial), len(c.out) > maxUnwritten,
		sizeOf(pseudo[:])+sizeOf(req.Header) > c.maxFields:
		return nil
	}
	s := c.newStream()
	c.newBlock()
	c.addAll(pseudo[:])
	c.addAll(req.Header)
	flags := http2.Flags(0)
	if length == 0 {
		flags = http2.FlagHeadersEndStream
	}
	c.headerBlock(s.id, flags)
	if s.sent = length == 0; !s.sent {
		s.push(req.Body, true)
	}
	c.flush()
	return s
}

// Whole implements wire.Exchange.
func (s *stream) Whole(news <-chan struct{}, most time.Duration) *wire.Response {
	var over <-chan time.Time
	if most > 0 {
		timer := wire.GetTimer(most)
		defer wire.PutTimer(timer)
		over = timer.C
	}
	for {
		s.l.mu.Lock()
		plain, whole := s.err == nil && len(s.early) == 0 && len(s.in) <= wire.MaxPlain, s.whole
		s.l.mu.Unlock()
		switch {
		case !plain:
			return nil
		case whole:
			s.plain = wire.Response{Status: s.status, Header: s.head, Trailers: s.trailers, Body: s.in}
			return &s.plain
		}
		select {
		case <-s.news:
		case <-news:
			return nil
		case <-over:
			return nil
		}
	}
}

// End implements wire.Exchange.
func (s *stream) End() { s.recycle() }

// HeadCame implements wire.Exchange.
func (s *stream) HeadCame() bool {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	return s.head != nil
}

// Conn implements wire.Exchange.
func (s *stream) Conn() net.Conn { return s.c.Conn }
