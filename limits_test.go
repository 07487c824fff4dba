package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The limits that the reference names are those of the code.
func TestReferenceLimits(t *testing.T) {
	t.Parallel()
	constants, rows := constantsOf(t), rows(t)
	for _, c := range []struct {
		constant string
		row      string // what the row begins with
		unit     func(int64) string
	}{
		{"DefaultHeaderBytes", "headers of a request", inBytes},
		{"DefaultHeaderTimeout", "headers of a request", inTime},
		{"DefaultConnections", "connections", plain},
		{"DefaultStreams", "HTTP/2 streams of one connection", plain},
		{"h2.maxFrame", "an HTTP/2 frame", inBytes},
		{"callWindow", "what a caller may send over HTTP/2", inBytes},
		{"callerWindow", "what a caller may send over HTTP/2", inBytes},
		{"DefaultIdleTimeout", "a connection without a call", inTime},
		{"pingTimeout", "a connection without a call", inTime},
		{"DefaultMaxCalls", "calls under way at one gateway", plain},
		{"gateway.DefaultMaxHeld", "callers held by one gateway", plain},
		{"mom.DefaultMaxHeld", "callers held by one MOM", plain},
		{"DefaultHold", "how long a caller is held", inTime},
		{"MaxHold", "how long a caller is held", inSeconds},
		{"DefaultTTL", "how long a task may wait", inTime},
		{"MaxTTL", "how long a task may wait", inTime},
		{"DefaultAnswerTTL", "how long an answer is kept", inTime},
		{"MaxAnswerTTL", "how long an answer is kept", inTime},
		{"DefaultTombstoneTTL", "how long the record of a finished task", inTime},
		{"drainTimeout", "a call", inTime},
		{"maxTries", "tries of a direct call", plain},
		{"budgetPerSecond", "retries of a route", plain},
		{"maxAttempts", "attempts at a stored call", plain},
		{"DefaultAttemptTimeout", "attempts at a stored call", inTime},
		{"breakerStreak", "breaker", plain},
		{"breakerCalls", "breaker", plain},
		{"breakerWindow", "breaker", inTime},
		{"probePause", "breaker", inTime},
		{"maxReplay", "a unary request that is kept", inBytes},
		{"bodyTimeout", "a unary request that is kept", inTime},
		{"maxRequest", "the request of a stored call", inBytes},
		{"MaxMessage", "the answer to a stored call, or to one that is translated", inBytes},
		{"maxSnapshot", "a schema that is kept", inBytes},
		{"DefaultMaxQueued", "open tasks in one shard", plain},
		{"DefaultMaxBytes", "bytes of the calls in one shard", inBytes},
		{"DefaultParkedTTL", "dead and uncertain tasks", inTime},
		{"MaxShards", "shards of one queue", plain},
		{"mom.maxWindow", "tasks of one shard under way", plain},
		{"maxRequestBytes", "messages to Holdline's own", inBytes},
		{"dialTimeout", "dialling a service", inTime},
		{"maxLaneCalls", "HTTP/2 connections to an endpoint", plain},
		{"DefaultTTL", "`ttl=1h`", inTime},
		{"MaxTTL", "`ttl=1h`", inTime},
		{"DefaultAttemptTimeout", "`attempt-timeout=5m`", inTime},
		{"MaxShards", "`shards=8`", plain},
	} {
		values := constants[c.constant]
		if len(values) != 1 {
			t.Errorf("%s: the code has the values %v, want one", c.constant, values)
			continue
		}
		want := regexp.MustCompile(`\b` + c.unit(values[0]) + `\b`)
		if !slices.ContainsFunc(rows, func(row []string) bool { return strings.HasPrefix(row[1], c.row) && want.MatchString(row[2]) }) {
			t.Errorf("%q does not say %s, as %s does", c.row, c.unit(values[0]), c.constant)
		}
	}
}

// constantsOf reads the constants of the code that are numbers, by their names and by those with
// their package before them.
func constantsOf(t *testing.T) map[string][]int64 {
	t.Helper()
	found := map[string][]int64{}
	units := strings.NewReplacer("time.Millisecond", "1000000", "time.Second", "1000000000", "time.Minute", "60000000000", "time.Hour", "3600000000000")
	for _, folder := range []string{"gateway", "mom", "mom/redisstore", "internal/bridge", "internal/contract", "internal/route", "internal/server", "internal/upstream", "internal/wire/h2"} {
		names, err := filepath.Glob(folder + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if spec, ok := n.(*ast.ValueSpec); ok {
					for i, value := range spec.Values {
						result, err := types.Eval(token.NewFileSet(), nil, token.NoPos, units.Replace(types.ExprString(value)))
						if err != nil || result.Value == nil {
							continue // it is made of other constants, or is none
						}
						if n, err := strconv.ParseInt(result.Value.ExactString(), 10, 64); err == nil {
							for _, name := range []string{spec.Names[i].Name, file.Name.Name + "." + spec.Names[i].Name} {
								found[name] = append(found[name], n)
							}
						}
					}
				}
				_, local := n.(*ast.FuncDecl)
				return !local
			})
		}
	}
	return found
}

// plain writes a number as the pages do: 10 000.
func plain(n int64) string {
	text := strconv.FormatInt(n, 10)
	if n >= 1000 {
		text = text[:len(text)-3] + " " + text[len(text)-3:]
	}
	return text
}

func inBytes(n int64) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

func inSeconds(n int64) string { return fmt.Sprintf("%d s", time.Duration(n)/time.Second) }

func inTime(n int64) string {
	const day = 24 * time.Hour
	switch d := time.Duration(n); {
	case d > day:
		return fmt.Sprintf("%d days", d/day)
	case d >= time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d >= time.Minute:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d >= time.Second:
		return inSeconds(n)
	default:
		return fmt.Sprintf("%d ms", d/time.Millisecond)
	}
}
