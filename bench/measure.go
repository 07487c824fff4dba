package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// procedure is what is called if nothing else is said; its answer is checked each time.
const (
	service   = "arithmetic.v1.SumService"
	procedure = "/" + service + "/Sum"
)

// shape is what a load looks like.
type shape struct {
	Protocol    string `json:"protocol"`
	Connections int    `json:"connections"`
	Streams     int    `json:"streams,omitempty"` // calls in flight on each connection
	Call        string `json:"call,omitempty"`    // the name of ask
	ask         *ask   // nil: that of the peer
}

// width is how many calls are in flight, and on how many connections; empty where that is not said.
func (s shape) width() string {
	switch {
	case s.Streams > 1:
		return fmt.Sprintf("%d × %d", s.Connections, s.Streams)
	case s.Connections == 0:
		return ""
	}
	return strconv.Itoa(s.Connections)
}

func (s shape) String() string {
	return strings.Join(strings.Fields(s.Protocol+" "+s.width()+" "+s.Call), " ")
}

// row is one peer in one cell of one round. CPU time is in µs a call.
type row struct {
	shape
	Round       int                `json:"round"`
	Scenario    string             `json:"scenario"`
	Peer        string             `json:"peer"`
	Calls       int                `json:"calls"`
	CallsPerSec float64            `json:"calls_per_second"`
	P50         float64            `json:"p50_us"`
	P99         float64            `json:"p99_us"`
	CPU         float64            `json:"cpu_us_per_call"`              // of all parts but the load
	CPUOf       map[string]float64 `json:"cpu_us_per_call_of,omitempty"` // by part
	Errors      int                `json:"errors"`
	FirstError  string             `json:"first_error,omitempty"`

	// Ended is how many tasks of another service ended meanwhile.
	Ended int `json:"ended,omitempty"`

	// Last is when the last call was answered.
	Last float64 `json:"last_us,omitempty"`

	// TaskBytes is the memory of Redis that a task takes.
	TaskBytes float64 `json:"bytes_per_task,omitempty"`

	// Commands are those that Redis has spent time on, in µs a call.
	Commands map[string]float64 `json:"commands_us_per_call,omitempty"`

	// Memory is what the processes have in memory with idle connections, and MemoryBefore what they had without, in MB.
	Memory       float64 `json:"memory_mb,omitempty"`
	MemoryBefore float64 `json:"memory_before_mb,omitempty"`

	made int // calls, uncounted ones too
}

// spend notes what so many calls cost each part.
func (r *row) spend(before, after map[string]time.Duration, calls int) {
	r.CPUOf = make(map[string]float64, len(after))
	for part := range after {
		used := microseconds(after[part]-before[part]) / float64(max(calls, 1))
		r.CPUOf[part] = used
		r.CPU += used
	}
}

const (
	// warmShare of a measurement goes before it, uncounted: connections to the
	// backend are dialled, pools filled, branches learned.
	warmShare = 8
	// patience is how long a call may take at the end of a measurement.
	patience = 10 * time.Second
)

// measure loads one peer. Only connections that fail count as errors; an error
// that it returns says that there was nothing to measure.
func measure(ctx context.Context, p *peer, of shape, duration time.Duration) (row, error) {
	r := row{shape: of, Scenario: p.scenario, Peer: p.name}
	loads := make([]*load, of.Connections)
	for i := range loads {
		addrs := append([]string{p.addr[of.Protocol]}, p.more...)
		l, err := newLoad(ctx, of.Protocol, addrs[i%len(addrs)], cmp.Or(of.ask, p.ask))
		if err != nil {
			return r, err
		}
		defer l.caller.close()
		loads[i] = l
	}
	if err := drive(loads, of.Streams, duration/warmShare); err != nil {
		return r, err
	}
	for _, l := range loads {
		r.made += len(l.latencies)
	}
	all := clocks{partClient: {os.Getpid()}}
	maps.Copy(all, p.clocks)
	before, err := all.read()
	if err != nil {
		return r, err
	}
	start := time.Now()
	if err := drive(loads, of.Streams, duration); err != nil {
		return r, err
	}
	elapsed := time.Since(start)
	after, err := all.read()
	if err != nil {
		return r, err
	}
	var latencies []time.Duration
	for _, l := range loads {
		latencies = append(latencies, l.latencies...)
		if l.err != nil {
			r.Errors++
			if r.FirstError == "" {
				r.FirstError = l.err.Error()
			}
		}
	}
	slices.Sort(latencies)
	r.Calls = len(latencies)
	r.CallsPerSec = float64(r.Calls) / elapsed.Seconds()
	r.P50 = microseconds(percentile(latencies, 50))
	r.P99 = microseconds(percentile(latencies, 99))
	r.made += r.Calls
	r.spend(before, after, r.Calls)
	r.CPU -= r.CPUOf[partClient] // it is not what is measured
	return r, nil
}

// load is one connection, and what it sees.
type load struct {
	caller    caller
	polled    *polledConn // nil: it has a goroutine of its own
	open      int         // calls in flight
	latencies []time.Duration
	err       error // the connection's last, nil if it worked to the end
}

func newLoad(ctx context.Context, protocol, addr string, a *ask) (*load, error) {
	conn, err := connect(ctx, protocol, addr)
	if err != nil {
		return nil, err
	}
	l := &load{}
	if tcp, plain := conn.(*net.TCPConn); plain && a.brief() {
		if l.polled, err = newPolledConn(tcp); err != nil {
			return nil, err
		}
		conn = l.polled
	}
	l.caller = protocols[protocol].speak(conn, a)
	return l, nil
}

// drive calls on all connections at once, with so many calls in flight on each, until the time is over.
func drive(loads []*load, streams int, duration time.Duration) error {
	end := time.Now().Add(duration)
	var polled []*load
	var group sync.WaitGroup
	for _, l := range loads {
		if err := l.caller.expire(end.Add(patience)); err != nil {
			return err
		}
		l.open, l.latencies, l.err = streams, make([]time.Duration, 0, 1024), nil
		if l.polled != nil {
			polled = append(polled, l)
			continue
		}
		group.Go(func() {
			for l.begin(); l.open > 0; {
				l.step(end)
			}
		})
	}
	err := poll(polled, end)
	group.Wait()
	return err
}

// begin sends the first calls.
func (l *load) begin() {
	now := time.Now()
	for range l.open {
		if err := l.caller.send(now); err != nil {
			l.fail(err)
			return
		}
	}
	l.flush()
}

// step waits until a call has ended, and sends another one if there is time.
func (l *load) step(end time.Time) {
	sent, err := l.caller.receive()
	l.next(sent, err, end)
}

// take takes what has come, and sends another call for each that has ended if there is time.
func (l *load) take(end time.Time) {
	for {
		come, err := l.caller.come()
		if err != nil {
			l.fail(err)
		}
		if !come {
			break
		}
		if sent, ended, err := l.caller.advance(); ended || err != nil {
			l.next(sent, err, end)
		}
		if l.open == 0 || l.caller.buffered() == 0 {
			break // poll knows if there is more
		}
	}
	if l.open > 0 {
		l.flush()
	}
}

// next goes on when a call has ended.
func (l *load) next(sent time.Time, err error, end time.Time) {
	if err != nil {
		l.fail(err)
		return
	}
	// A call begins where another one ended: one look at the clock a call.
	now := time.Now()
	l.latencies = append(l.latencies, now.Sub(sent))
	if !now.Before(end) {
		l.open--
	} else if err := l.caller.send(now); err != nil {
		l.fail(err)
	}
}

func (l *load) flush() {
	if err := l.caller.flush(); err != nil {
		l.fail(err)
	}
}

func (l *load) fail(err error) { l.open, l.err = 0, err }

// percentile returns the nearest-rank percentile of sorted values, 0 of none.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max((len(sorted)*p+99)/100, 1)-1]
}

// median returns the middle value, or the mean of the two in the middle; 0 of none.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
