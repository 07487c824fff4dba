package cmd

import (
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"holdline/gateway"
	"holdline/internal/contract"
	"holdline/internal/route"
	"holdline/internal/server"
	"holdline/internal/stack"
	"holdline/mom"
	"holdline/mom/redisstore"
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
		"max_connections":  strconv.Itoa(server.DefaultConnections),
		"max_streams":      strconv.Itoa(server.DefaultStreams),
		"max_header_bytes": strconv.Itoa(server.DefaultHeaderBytes),
		"header_timeout":   short(server.DefaultHeaderTimeout),
		"idle_timeout":     short(server.DefaultIdleTimeout),

		"gateway_max_calls": strconv.Itoa(gateway.DefaultMaxCalls),
		"gateway_max_held":  strconv.Itoa(gateway.DefaultMaxHeld),
		"default_hold":      short(contract.DefaultHold),
		"default_ttl":       short(contract.DefaultTTL),
		"max_shards":        strconv.Itoa(route.MaxShards),

		"answer_ttl":     short(contract.DefaultAnswerTTL),
		"max_answer_ttl": short(contract.MaxAnswerTTL),
		"min_rate":       plainNumber(mom.MinRate),
		"max_rate":       plainNumber(mom.MaxRate),
		"mom_max_held":   strconv.Itoa(mom.DefaultMaxHeld),
		"tombstone_ttl":  short(redisstore.DefaultTombstoneTTL),
		"max_queued":     strconv.Itoa(redisstore.DefaultMaxQueued),
		"max_bytes":      strconv.Itoa(redisstore.DefaultMaxBytes),
		"parked_ttl":     short(redisstore.DefaultParkedTTL),

		"gateway_listen":  ":8080",
		"gateway_address": stack.DefaultListen,
		"admin_address":   "127.0.0.1:9464",
		"service_ports":   strings.Join(ports, ", "),
		"state":           stateDir(),
	}
}

// plainNumber writes 1000000 where %g writes 1e+06.
func plainNumber(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

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
