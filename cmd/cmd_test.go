package cmd

import (
	"slices"
	"strings"
	"testing"
)

// A negative number behind a flag is its value. Nothing else is touched.
func TestJoinNegatives(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"call a/B --wait -1s":      "call a/B --wait=-1s",
		"queue limit a --x -.5 -1": "queue limit a --x=-.5 -1",
		"call a/B -d -1 --async":   "call a/B -d -1 --async",
		"call --header -H -1":      "call --header -H -1",
		"call --wait=1s -1":        "call --wait=1s -1",
		"call --wait 1s":           "call --wait 1s",
		"help -- --wait -1s":       "help -- --wait -1s",
		"-1 --wait":                "-1 --wait",
	} {
		if got := joinNegatives(strings.Fields(line)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: got %q, want %s", line, got, want)
		}
	}
}

// The help of queue limit says which rates a MOM takes.
func TestRatesInHelp(t *testing.T) {
	t.Parallel()
	var grammar struct {
		Limit QueueLimit `cmd:""`
	}
	want := "from 0.1 to 1000000"
	for _, flag := range Parser(&grammar).Model.Leaves(true)[0].Flags {
		if flag.Name == "per-second" && !strings.Contains(flag.Help, want) {
			t.Errorf("got %q, want %q in it", flag.Help, want)
		}
	}
}
