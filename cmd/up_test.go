package cmd

import (
	"strings"
	"testing"

	"holdline/internal/stack"
)

// The service that plays an outage is started where its route goes, which --ports may have moved.
func TestGreetingStartsService(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"127.0.0.1:8081":  " service sum\n",
		"127.0.0.1:22001": " service sum --listen 127.0.0.1:22001\n",
	} {
		var out strings.Builder
		(&Up{Without: []string{"sum"}}).greet(&out, &stack.Stack{Service: map[string]string{"sum": addr}}, nil)
		if !strings.Contains(out.String(), want) {
			t.Errorf("at %s: got %s, want %q", addr, out.String(), want)
		}
	}
}
