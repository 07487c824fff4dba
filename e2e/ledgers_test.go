package e2e

import (
	"context"
	"encoding/csv"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	"holdline/internal/contract"
	"holdline/internal/server"
)

// ledgerEnv makes the test binary a ledger that can be killed: its address, and
// the file of its runs.
const ledgerEnv = "HOLDLINE_TEST_LEDGER"

// callHeader names a call, to whoever gets it.
const callHeader = "Ledger-Call"

// longestRun is the longest that a ledger of its own process takes for a call:
// time in which it can be killed.
const longestRun = 10 * time.Millisecond

// serveLedger serves until it is killed. Each run is in the file before anything
// else happens; what was written outlives the process.
func serveLedger(place string) error {
	addr, name, _ := strings.Cut(place, " ")
	file, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	l := ledger{during: func(ctx context.Context, amount int64) {
		info, _ := connect.CallInfoForServerContext(ctx)
		header := info.RequestHeader()
		if _, err := fmt.Fprintf(file, "%d,%s,%s\n", amount, header.Get(callHeader), header.Get(contract.HeaderKey)); err != nil {
			panic(err)
		}
		select {
		case <-time.After(rand.N(longestRun)):
		case <-ctx.Done():
		}
	}}
	s, err := server.Listen(server.Config{Addr: addr, Handler: l.handler(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return s.Run(context.Background())
}

// ledgers are processes at all places where a house expects them.
type ledgers struct {
	processes []*process
	runs      string // the file that they write
}

func (h *house) startLedgers(tb testing.TB) *ledgers {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	l := &ledgers{runs: filepath.Join(tb.TempDir(), "runs")}
	for _, addr := range h.ledgers {
		p := &process{name: self, args: []string{"ledger"}, env: []string{ledgerEnv + "=" + addr + " " + l.runs}}
		p.begin(tb)
		l.processes = append(l.processes, p)
	}
	return l
}

// ran reads the runs of each amount.
func (l *ledgers) ran(tb testing.TB) map[int64][]ran {
	tb.Helper()
	file, err := os.Open(l.runs)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	lines, err := csv.NewReader(file).ReadAll()
	if err != nil {
		tb.Fatal(err)
	}
	runs := map[int64][]ran{}
	for _, line := range lines {
		amount, err := strconv.ParseInt(line[0], 10, 64)
		if err != nil {
			tb.Fatal(err)
		}
		runs[amount] = append(runs[amount], ran{call: line[1], task: line[2]})
	}
	return runs
}
