package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// cell is one peer under one load, over all rounds.
type cell struct {
	calls, p50, p99, cpu float64 // medians
	errors               int
}

func cellOf(rows []row, protocol string, connections int, peer string) (c cell, ok bool) {
	var calls, p50, p99, cpu []float64
	for _, r := range rows {
		if r.Protocol == protocol && r.Connections == connections && r.Peer == peer {
			calls, p50 = append(calls, r.CallsPerSec), append(p50, r.P50)
			p99, cpu = append(p99, r.P99), append(cpu, r.CPU)
			c.errors += r.Errors
		}
	}
	c.calls, c.p50, c.p99, c.cpu = median(calls), median(p50), median(p99), median(cpu)
	return c, len(calls) > 0
}

// report writes Markdown: what was measured and where, a line per cell, and how
// Holdline stands to ReverseProxy.
func (s *settings) report(out io.Writer, peers []peerKind, rows []row) error {
	_, _ = fmt.Fprintf(out, "%s\n\nMedians of %d rounds of %s each.\n\n", machine(), s.rounds, s.duration)
	// Errors of the writer are kept until Flush.
	table := tabwriter.NewWriter(out, 0, 0, 1, ' ', tabwriter.Debug)
	line := func(fields ...any) {
		for _, f := range fields {
			_, _ = fmt.Fprintf(table, "\t %v ", f)
		}
		_, _ = fmt.Fprintln(table, "\t")
	}
	line("protocol", "connections", "peer", "calls/s", "p50 µs", "p99 µs", "CPU µs/call", "errors")
	line("---", "---:", "---", "---:", "---:", "---:", "---:", "---:")
	s.cells(func(protocol string, connections int) {
		for _, p := range peers {
			c, _ := cellOf(rows, protocol, connections, p.name)
			cpu := fmt.Sprintf("%.1f", c.cpu)
			if p.name == peerDirect {
				cpu = "–"
			}
			line(protocol, connections, p.name, fmt.Sprintf("%.0f", c.calls),
				fmt.Sprintf("%.0f", c.p50), fmt.Sprintf("%.0f", c.p99), cpu, c.errors)
		}
	})
	if err := table.Flush(); err != nil {
		return err
	}
	for _, name := range []string{peerHoldline, peerOther} {
		if ratios := s.ratios(rows, name); ratios != "" {
			if _, err := fmt.Fprintf(out, "\n%s to %s (target: calls/s at least 0.90, CPU at most 1.10): %s\n",
				name, peerReverseProxy, ratios); err != nil {
				return err
			}
		}
	}
	return nil
}

// ratios compares medians of a peer with ReverseProxy's, empty if either was
// not measured.
func (s *settings) ratios(rows []row, name string) string {
	var parts []string
	s.cells(func(protocol string, connections int) {
		a, okA := cellOf(rows, protocol, connections, name)
		b, okB := cellOf(rows, protocol, connections, peerReverseProxy)
		if okA && okB {
			parts = append(parts, fmt.Sprintf("%s×%d calls/s %.2f, CPU %.2f", protocol, connections, a.calls/b.calls, a.cpu/b.cpu))
		}
	})
	return strings.Join(parts, "; ")
}

func (s *settings) cells(visit func(protocol string, connections int)) {
	for _, protocol := range s.protocols {
		for _, connections := range s.connections {
			visit(protocol, connections)
		}
	}
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
