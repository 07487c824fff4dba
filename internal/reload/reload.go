// Package reload reads files again when they change.
package reload

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// lookPause is the time between two looks at the files. We look at them because the mounts of containers swap links,
// which not every way to be told of changes notices.
const lookPause = time.Second

// Files are files that are read together. One goroutine may use them at a time.
type Files struct {
	read    map[string]*file  // since the last time that they were read, by name
	pipes   map[string][]byte // what came out of those that cannot be read again
	runs    bool
	failed  prometheus.Gauge
	reloads *prometheus.CounterVec
	log     *slog.Logger
}

// file is a file as it was read, or could not be.
type file struct {
	was  fs.FileInfo // nil: it was not there
	sum  [sha256.Size]byte
	bad  bool        // it could not be read
	last fs.FileInfo // at the last look
}

// New returns no files yet. It registers what is counted.
func New(metrics prometheus.Registerer, log *slog.Logger) *Files {
	f := &Files{
		read: map[string]*file{}, pipes: map[string][]byte{}, log: log,
		failed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdline_reload_failed", Help: "1 while the files of routes and schemas cannot be used as they are now: what they said before still holds.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdline_reloads_total", Help: "How often the files of routes and schemas were read again, by whether they are used since, or cannot be.",
		}, []string{"result"}),
	}
	for _, result := range []string{"used", "failed"} {
		f.reloads.WithLabelValues(result)
	}
	metrics.MustRegister(f.failed, f.reloads)
	return f
}

// Read reads a file, which belongs to the files from then on, whether it can be read or not. What is no file, such as a
// pipe, is read once.
func (f *Files) Read(name string) ([]byte, error) {
	if raw, ok := f.pipes[name]; ok {
		return raw, nil
	}
	was, _ := os.Stat(name) // before it is read: whatever changes later is seen
	odd := was != nil && !was.Mode().IsRegular()
	if odd && f.runs { // nobody may ever write into it
		f.read[name] = &file{was: was, last: was}
		return nil, fmt.Errorf("%s is no file any more", name)
	}
	raw, err := os.ReadFile(name)
	if err == nil && odd {
		f.pipes[name] = raw
		return raw, nil
	}
	f.read[name] = &file{was: was, last: was, bad: err != nil, sum: sha256.Sum256(raw)}
	return raw, err
}

// Any tells whether there are files.
func (f *Files) Any() bool { return len(f.read) > 0 }

// Run calls again whenever a file has changed, and whenever it is told to, until ctx ends. Again reads all files by
// Read, and uses what they say, or returns an error and changes nothing.
func (f *Files) Run(ctx context.Context, told <-chan struct{}, again func() error) {
	f.runs = true
	ticker := time.NewTicker(lookPause)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if !f.changed() {
				continue
			}
		case <-told:
		case <-ctx.Done():
			return
		}
		f.read = map[string]*file{}
		if err := again(); err != nil {
			f.failed.Set(1)
			f.reloads.WithLabelValues("failed").Inc()
			f.log.Warn("routes and schemas cannot be used as their files say now: the old ones stay", "error", err)
			continue
		}
		f.failed.Set(0)
		f.reloads.WithLabelValues("used").Inc()
	}
}

// changed tells whether a file has another content than when it was read. While somebody writes, it may be half
// written: so two looks have to find all files alike.
func (f *Files) changed() bool {
	quiet := true
	for name, one := range f.read {
		now, _ := os.Stat(name)
		quiet, one.last = quiet && same(now, one.last), now
	}
	if !quiet {
		return false
	}
	for name, one := range f.read {
		touched := !same(one.was, one.last)
		if !touched && !one.bad {
			continue
		}
		if one.last != nil && !one.last.Mode().IsRegular() {
			if touched {
				return true // Read says what is wrong with it
			}
			continue
		}
		raw, err := os.ReadFile(name)
		switch {
		case one.bad && !touched: // whatever kept us from it may be gone
			if err == nil {
				return true
			}
		case err != nil, sha256.Sum256(raw) != one.sum:
			return true
		default:
			one.was = one.last // it was only touched
		}
	}
	return false
}

// same tells whether a file looks as it did before.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
