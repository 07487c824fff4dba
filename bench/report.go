package main

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
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
	calls, p50, p99, cpu   float64            // medians
	ended, last, taskBytes float64            // likewise
	before, memory         float64            // likewise
	longest                float64            // of the rounds' p50
	cpuOf, commands        map[string]float64 // likewise
	errors                 int
	rows                   int
}

// cellOf puts the rows of a cell together. With no connections given, those of
// all of the protocol.
func cellOf(rows []row, scenario string, of shape, peer string) cell {
	var c cell
	var calls, p50, p99, cpu, ended, last, taskBytes, before, memory []float64
	parts, commands := map[string][]float64{}, map[string][]float64{}
	for _, r := range rows {
		if r.Scenario != scenario || r.Protocol != of.Protocol || of.Connections != 0 && r.shape != of || r.Peer != peer {
			continue
		}
		calls, p50 = append(calls, r.CallsPerSec), append(p50, r.P50)
		p99, cpu = append(p99, r.P99), append(cpu, r.CPU)
		ended, last, taskBytes = append(ended, float64(r.Ended)), append(last, r.Last), append(taskBytes, r.TaskBytes)
		before, memory = append(before, r.MemoryBefore), append(memory, r.Memory)
		for part, used := range r.CPUOf {
			parts[part] = append(parts[part], used)
		}
		for command, used := range r.Commands {
			commands[command] = append(commands[command], used)
		}
		c.longest = max(c.longest, r.P50)
		c.errors += r.Errors
		c.rows++
	}
	c.calls, c.p50, c.p99, c.cpu = median(calls), median(p50), median(p99), median(cpu)
	c.ended, c.last, c.taskBytes, c.before, c.memory = median(ended), median(last), median(taskBytes), median(before), median(memory)
	c.cpuOf, c.commands = medians(parts), medians(commands)
	return c
}

func medians(all map[string][]float64) map[string]float64 {
	of := make(map[string]float64, len(all))
	for name, values := range all {
		of[name] = median(values)
	}
	return of
}

// used is the CPU time of a part, for a table.
func (c cell) used(part string) any {
	if used, ok := c.cpuOf[part]; ok {
		return used
	}
	return "–"
}

// known is a number for a table, unless it was not measured.
func known(number float64) any {
	if number == 0 {
		return "–"
	}
	return number
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
		case scenarioLatency:
			err = s.reportLatency(out, rows)
		case scenarioDepth:
			err = s.reportDepth(out, rows)
		case scenarioScale:
			err = s.reportScale(out, rows)
		case scenarioHeld:
			err = s.reportHeld(out, rows)
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
		line := ratios(rows, scenario, s.cells(s.asksIn(scenario)), name, to, figureCalls, figureCPU)
		if err := writeRatios(out, fmt.Sprintf("%s to %s (target: %s)", name, to, target), line); err != nil {
			return err
		}
	}
	return nil
}

// figure is something of a cell that is compared.
type figure struct {
	name string
	of   func(cell) float64
}

var (
	figureCalls = figure{"calls/s", func(c cell) float64 { return c.calls }}
	figureCPU   = figure{"CPU", func(c cell) float64 { return c.cpu }}
)

// figuresOf are what each of these parts uses.
func figuresOf(parts ...string) (all []figure) {
	for _, part := range parts {
		all = append(all, figure{part, func(c cell) float64 { return c.cpuOf[part] }})
	}
	return all
}

// ratios compares medians of two peers, in each cell in which both were measured. It is empty if there is none.
func ratios(rows []row, scenario string, cells iter.Seq[shape], name, to string, figures ...figure) string {
	return inCells(cells, func(of shape) string {
		return ratio(cellOf(rows, scenario, of, name), cellOf(rows, scenario, of, to), figures)
	})
}

// ratiosTo compares a peer with one cell, which may be none of the load.
func ratiosTo(to cell, rows []row, scenario string, cells iter.Seq[shape], name string, figures ...figure) string {
	return inCells(cells, func(of shape) string { return ratio(cellOf(rows, scenario, of, name), to, figures) })
}

// inCells says of each cell what there is to say.
func inCells(cells iter.Seq[shape], say func(shape) string) string {
	var all []string
	for of := range cells {
		if said := say(of); said != "" {
			all = append(all, of.String()+" "+said)
		}
	}
	return strings.Join(all, "; ")
}

// ratio is empty unless both were measured.
func ratio(a, b cell, figures []figure) string {
	if a.rows == 0 || b.rows == 0 {
		return ""
	}
	words := make([]string, len(figures))
	for i, f := range figures {
		words[i] = fmt.Sprintf("%s %.2f", f.name, f.of(a)/f.of(b))
	}
	return strings.Join(words, ", ")
}

// writeRatios writes a line of them behind a title, unless there are none.
func writeRatios(out io.Writer, title, ratios string) error {
	if ratios == "" {
		return nil
	}
	_, err := fmt.Fprintf(out, "\n%s: %s\n", title, ratios)
	return err
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
