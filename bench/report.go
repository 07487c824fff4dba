package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// cell is one peer under one load, over all rounds.
type cell struct {
	calls, p50, p99, cpu float64 // medians
	ended                float64 // likewise
	before, memory       float64 // likewise
	longest              float64 // of the rounds' p50
	cpuOf                map[string]float64
	errors               int
	rows                 int
}

// cellOf puts the rows of a cell together. With no connections given, those of
// all of the protocol.
func cellOf(rows []row, scenario string, of shape, peer string) cell {
	var c cell
	var calls, p50, p99, cpu, ended, before, memory []float64
	parts := map[string][]float64{}
	for _, r := range rows {
		if r.Scenario != scenario || r.Protocol != of.Protocol || of.Connections != 0 && r.shape != of || r.Peer != peer {
			continue
		}
		calls, p50 = append(calls, r.CallsPerSec), append(p50, r.P50)
		p99, cpu = append(p99, r.P99), append(cpu, r.CPU)
		ended = append(ended, float64(r.Ended))
		before, memory = append(before, r.MemoryBefore), append(memory, r.Memory)
		for part, used := range r.CPUOf {
			parts[part] = append(parts[part], used)
		}
		c.longest = max(c.longest, r.P50)
		c.errors += r.Errors
		c.rows++
	}
	c.calls, c.p50, c.p99, c.cpu = median(calls), median(p50), median(p99), median(cpu)
	c.ended, c.before, c.memory = median(ended), median(before), median(memory)
	c.cpuOf = make(map[string]float64, len(parts))
	for part, used := range parts {
		c.cpuOf[part] = median(used)
	}
	return c
}

// report writes Markdown: what was measured and where, and the tables of each
// scenario.
func (s *settings) report(out io.Writer, peers map[string][]peerKind, rows []row) error {
	_, _ = fmt.Fprintf(out, "%s\n\nMedians of %d rounds of %s each.\n", machine(), s.rounds, s.duration)
	for _, scenario := range scenarioNames {
		if !slices.Contains(s.scenarios, scenario) {
			continue
		}
		_, _ = fmt.Fprintf(out, "\n## %s\n\n", scenario)
		var err error
		switch scenario {
		case scenarioDirect:
			err = s.reportProxies(out, scenario, peers[scenario], rows, peerReverseProxy, "calls/s at least 0.90, CPU at most 1.10")
		case scenarioBridged:
			err = s.reportProxies(out, scenario, peers[scenario], rows, peerVanguard, "CPU at most 1.00")
		case scenarioStored:
			err = s.reportStored(out, rows)
		case scenarioKeyed:
			err = s.reportKeyed(out, rows)
		case scenarioReplay:
			err = s.reportReplay(out, rows)
		case scenarioBulk:
			err = s.reportBulk(out, rows)
		case scenarioIdle:
			err = s.reportIdle(out, peers[scenario], rows)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reportProxies writes a line per cell, and how Holdline stands to one of its peers.
func (s *settings) reportProxies(out io.Writer, scenario string, peers []peerKind, rows []row, to, target string) error {
	t := newTable(out, "protocol", "call", "connections", "peer", "calls/s", "p50 µs", "p99 µs", "CPU µs/call", "µs/message", "errors")
	for of := range s.cells(s.asksIn(scenario)) {
		for _, p := range peers {
			c := cellOf(rows, scenario, of, p.name)
			if c.rows == 0 {
				continue
			}
			cpu, each := fmt.Sprintf("%.1f", c.cpu), "–"
			if p.name == peerDirect {
				cpu = "–"
			} else if of.ask.messages > 0 {
				each = fmt.Sprintf("%.2f", c.cpu/float64(of.ask.messages))
			}
			t.line(of.Protocol, of.Call, of.width(), p.name, c.calls, c.p50, c.p99, cpu, each, c.errors)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, name := range []string{peerHoldline, peerOther} {
		if ratios := s.ratios(rows, scenario, name, to); ratios != "" {
			if _, err := fmt.Fprintf(out, "\n%s to %s (target: %s): %s\n", name, to, target, ratios); err != nil {
				return err
			}
		}
	}
	return nil
}

// ratios compares medians of two peers, empty if either was
// not measured.
func (s *settings) ratios(rows []row, scenario, name, to string) string {
	var parts []string
	for of := range s.cells(s.asksIn(scenario)) {
		a, b := cellOf(rows, scenario, of, name), cellOf(rows, scenario, of, to)
		if a.rows > 0 && b.rows > 0 {
			parts = append(parts, fmt.Sprintf("%s calls/s %.2f, CPU %.2f", of, a.calls/b.calls, a.cpu/b.cpu))
		}
	}
	return strings.Join(parts, "; ")
}

// reportStored writes a line per cell; the target is one of 16 connections.
func (s *settings) reportStored(out io.Writer, rows []row) error {
	t := newTable(out, "protocol", "connections", "calls/s", "p50 µs", "p99 µs", "gateway CPU µs/call", "mom", "redis", "errors")
	var targets []string
	for of := range s.cells(nil) {
		c := cellOf(rows, scenarioStored, of, peerStored)
		t.line(of.Protocol, of.width(), c.calls, c.p50, c.p99, c.cpuOf[partGateway], c.cpuOf[partMOM], c.cpuOf[partRedis], c.errors)
		if of.Connections == 16 {
			targets = append(targets, fmt.Sprintf("%s %.2f ms", of.Protocol, c.p50/1e3))
		}
	}
	if err := t.Flush(); err != nil || targets == nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\np50 at 16 connections (target: under 2 ms): %s\n", strings.Join(targets, "; "))
	return err
}

// reportKeyed writes two lines per cell: calls without a key and with one.
func (s *settings) reportKeyed(out io.Writer, rows []row) error {
	t := newTable(out, "protocol", "connections", "calls", "calls/s", "p50 µs", "p99 µs",
		"gateway CPU µs/call", "mom", "redis", "service", "errors")
	for of := range s.cells(nil) {
		for _, peer := range []string{peerUnkeyed, peerKeyed} {
			c := cellOf(rows, scenarioKeyed, of, peer)
			t.line(of.Protocol, of.width(), peer, c.calls, c.p50, c.p99,
				c.cpuOf[partGateway], c.cpuOf[partMOM], c.cpuOf[partRedis], c.cpuOf[partService], c.errors)
		}
	}
	return t.Flush()
}

// reportReplay writes a line per protocol, and how long held callers waited.
func (s *settings) reportReplay(out io.Writer, rows []row) error {
	t := newTable(out, "protocol", "tasks", "tasks/s", "mom CPU µs/task", "redis", "service", "held calls", "median ms", "longest ms")
	for _, protocol := range s.protocols {
		c := cellOf(rows, scenarioReplay, shape{Protocol: protocol}, peerReplay)
		held := cellOf(rows, scenarioReplay, shape{Protocol: protocol}, peerHeld)
		t.line(protocol, s.tasks, c.calls, c.cpuOf[partMOM], c.cpuOf[partRedis], c.cpuOf[partService],
			held.rows, held.p50/1e3, held.longest/1e3)
	}
	return t.Flush()
}

// table is one in Markdown, with its columns aligned. Errors of the writer are
// kept until Flush.
type table struct{ *tabwriter.Writer }

// newTable writes the heads. Columns of numbers are those after the protocol,
// but for the one that names peers.
func newTable(out io.Writer, heads ...string) *table {
	t := &table{tabwriter.NewWriter(out, 0, 0, 1, ' ', tabwriter.Debug)}
	fields, rules := make([]any, len(heads)), make([]any, len(heads))
	for i, head := range heads {
		fields[i], rules[i] = head, "---:"
		if slices.Contains([]string{"protocol", "peer", "calls", "call"}, head) {
			rules[i] = "---"
		}
	}
	t.line(fields...)
	t.line(rules...)
	return t
}

// line writes a row; small numbers get a digit behind the point.
func (t *table) line(fields ...any) {
	for _, f := range fields {
		if number, ok := f.(float64); ok {
			f = fmt.Sprintf("%.0f", number)
			if number < 100 {
				f = fmt.Sprintf("%.1f", number)
			}
		}
		_, _ = fmt.Fprintf(t, "\t %v ", f)
	}
	_, _ = fmt.Fprintln(t, "\t")
}

// machine says what was measured, on what, and when.
func machine() string {
	commit, err := git("rev-parse", "--short", "HEAD")
	if err != nil {
		commit = "unknown commit"
	} else if changes, err := git("status", "--porcelain"); err != nil || changes != "" {
		commit += "-dirty"
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	cpu := "unknown CPU"
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			cpu = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%s, %s %s/%s, kernel %s, %s, %d cores, %s", commit, runtime.Version(), runtime.GOOS, runtime.GOARCH,
		strings.TrimSpace(string(kernel)), cpu, runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
}

func git(args ...string) (string, error) {
	out, err := exec.Command("git", args...).Output()
	return strings.TrimSpace(string(out)), err
}

func writeJSON(name string, rows []row) error {
	raw, err := json.MarshalIndent(rows, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(raw, '\n'), 0o644)
}
