// Package logonce keeps a log readable when the same thing happens a thousand
// times a second: each thing is logged once per interval.
package logonce

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Every is the interval: how long the same thing is not logged again.
const Every = 30 * time.Second

// maxKeys is how many keys are remembered before all are forgotten. Keys are causes, so there are few.
const maxKeys = 1024

// Logger is safe for concurrent use.
type Logger struct {
	log  *slog.Logger
	mu   sync.Mutex
	said map[string]*said
}

type said struct {
	last time.Time
	more int // times that it was not logged since then
}

// New returns a Logger that has logged nothing yet.
func New(log *slog.Logger) *Logger { return &Logger{log: log, said: map[string]*said{}} }

// Warn logs a warning, unless one with the same key was logged within the interval. The next line with that
// key has the number of warnings that were not logged, as "unlogged". Warnings about the same thing have the
// same key, such as the message with the service's name.
func (l *Logger) Warn(key, msg string, args ...any) { l.Log(slog.LevelWarn, key, msg, args...) }

// Log is Warn at a level of the caller's choice.
func (l *Logger) Log(level slog.Level, key, msg string, args ...any) {
	unlogged, due := l.due(key)
	if !due {
		return
	}
	if unlogged > 0 {
		args = append(args[:len(args):len(args)], "unlogged", unlogged)
	}
	l.log.Log(context.Background(), level, msg, args...)
}

// due tells whether a key may be logged now, and if so, how many times it was not logged since the last line.
func (l *Logger) due(key string) (unlogged int, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, s := time.Now(), l.said[key]
	switch {
	case s == nil:
		if len(l.said) >= maxKeys {
			clear(l.said)
		}
		l.said[key] = &said{last: now}
		return 0, true
	case now.Sub(s.last) < Every:
		s.more++
		return 0, false
	}
	unlogged, s.last, s.more = s.more, now, 0
	return unlogged, true
}
