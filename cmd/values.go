package cmd

import (
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"holdline/internal/contract"
	"holdline/internal/route"
	"holdline/services"
)

// values are the defaults and limits that the flags and their help texts show. Each of
// them is written once, in the room that uses it.
func values() kong.Vars {
	ports := make([]string, len(services.All))
	for i, s := range services.All {
		ports[i] = ":" + s.Port + " for " + s.Name
	}
	return kong.Vars{
		"default_hold":   short(contract.DefaultHold),
		"default_ttl":    short(contract.DefaultTTL),
		"max_answer_ttl": short(contract.MaxAnswerTTL),
		"max_shards":     strconv.Itoa(route.MaxShards),
		"service_ports":  strings.Join(ports, ", "),
		"state":          stateDir(),
		"version":        versionLine(),
	}
}

// short writes 1h where a Duration's String writes 1h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
