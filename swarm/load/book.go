package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdline/internal/load"
)

// counts is what came of the calls of a time.
type counts struct {
	calls    int           // answered, or accepted
	failed   int           // answers of Holdline that were errors, after which the call was sent again
	repeated int           // calls that nobody answered, and that were sent again
	accepted int           // calls that ended in a handle: the answer comes later
	longest  time.Duration // from a call to its answer or handle, all repeats included; of those that began in this time
	unheld   time.Duration // the same, of calls that are not held: from each to when it is answered or stored
}

// book keeps the counts. It is safe for concurrent use.
type book struct {
	out io.Writer

	mu       sync.Mutex
	now, all counts
	name     string // of what is under way; empty between two
	begun    time.Time
	failed   string // how many calls may fail, and be repeated
	repeated string
	answered int // accepted calls whose answers were read
	wrong    []string
	told     int // failures that were printed
}

// maxTold keeps a broken run readable.
const maxTold = 20

func newBook(out io.Writer) *book {
	_, _ = fmt.Fprint(out, "| what was done | whole again after | calls | failed | repeated | accepted | longest call | without a hold |\n"+
		"| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	return &book{out: out, failed: "-", repeated: "-"}
}

func (b *book) begin(line string) error {
	fields := strings.SplitN(line, " ", 3)
	if len(fields) != 3 {
		return fmt.Errorf("begin %q: want FAILED REPEATED NAME", line)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now, b.begun = counts{}, time.Now()
	b.failed, b.repeated, b.name = fields[0], fields[1], fields[2]
	return nil
}

func (b *book) end(note string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, _ = fmt.Fprintf(b.out, "| %s | %s | %d | %d | %d | %d | %.2f s | %.2f s |\n",
		b.name, note, b.now.calls, b.now.failed, b.now.repeated, b.now.accepted, b.now.longest.Seconds(), b.now.unheld.Seconds())
	for what, limit := range map[string]struct {
		most string
		got  int
	}{"failed": {b.failed, b.now.failed}, "were repeated": {b.repeated, b.now.repeated}} {
		if most, err := strconv.Atoi(limit.most); err == nil && limit.got > most {
			b.wrong = append(b.wrong, fmt.Sprintf("%s: %d calls %s, of at most %d", b.name, limit.got, what, most))
		}
	}
	b.now, b.failed, b.repeated, b.name = counts{}, "-", "-", ""
}

// done counts a call that began at that time, and was answered or accepted.
func (b *book) done(started time.Time, reply load.Reply, held bool) {
	took := time.Since(started)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range []*counts{&b.now, &b.all} {
		c.calls++
		if reply == load.Handle {
			c.accepted++
		}
	}
	b.all.longest = max(b.all.longest, took)
	if started.After(b.begun) {
		b.now.longest = max(b.now.longest, took)
		if !held {
			b.now.unheld = max(b.now.unheld, took)
		}
	}
}

// again counts a call that is sent again, and prints why.
func (b *book) again(caller string, reply load.Reply, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if reply == load.Refused {
		b.now.failed++
	} else {
		b.now.repeated++
	}
	if b.told++; b.told <= maxTold {
		_, _ = fmt.Fprintf(os.Stderr, "%s %s: %s: %v\n", time.Now().Format(time.TimeOnly), b.name, caller, err)
	}
}

// lose notes what must not be.
func (b *book) lose(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
}

func (b *book) answer() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answered++
}

// close prints the sums and says what was wrong.
func (b *book) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, _ = fmt.Fprintf(b.out, "\n%d calls, %d of them accepted to be answered later, of which %d were answered; the longest call took %.1f s.\n",
		b.all.calls, b.all.accepted, b.answered, b.all.longest.Seconds())
	if b.answered != b.all.accepted {
		b.wrong = append(b.wrong, fmt.Sprintf("%d accepted calls have no answer", b.all.accepted-b.answered))
	}
	if len(b.wrong) > 0 {
		return errors.New(strings.Join(b.wrong, "\n"))
	}
	return nil
}
