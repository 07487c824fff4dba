package redisstore

import (
	"embed"

	"github.com/redis/rueidis"
)

//go:embed scripts/*.lua scripts/shared/*.lua
var sources embed.FS

// A script is one transition, in the two forms that servers understand.
type script struct {
	name string
	// flagged begins with the line that lets it write at maxmemory: what
	// drains the queues must work when they have filled Redis.
	flagged *rueidis.Lua
	// plain is for servers before Redis 7 and for miniredis.
	plain *rueidis.Lua
}

var (
	addScript        = newScript("add", false)
	leaseScript      = newScript("lease", true, "finish")
	renewScript      = newScript("renew", true, "held")
	markScript       = newScript("mark", true, "held")
	settleScript     = newScript("settle", true, "held", "finish")
	releaseScript    = newScript("release", true, "held", "finish", "give_back")
	putBackScript    = newScript("put_back", true, "held", "finish")
	retryScript      = newScript("retry", true, "held", "finish", "park")
	parkScript       = newScript("park", true, "held", "park")
	cancelScript     = newScript("cancel", true, "finish")
	reviveScript     = newScript("revive", true, "revive")
	reviveDeadScript = newScript("revive_dead", true, "revive")
	reapScript       = newScript("reap", true, "finish", "give_back", "park")
	depthScript      = newScript("depth", true)
	pauseScript      = newScript("pause", true)
	limitScript      = newScript("limit", true)
)

// newScript puts a script together. Only what it shares is prepended: Lua builds
// all of it anew at each call, a sixth of what an add took.
func newScript(name string, drains bool, shared ...string) *script {
	text := source("shared/core")
	for _, part := range shared {
		text += "\n" + source("shared/"+part)
	}
	text += "\n" + source(name)
	s := &script{name: name, plain: rueidis.NewLuaScript(text)}
	s.flagged = s.plain
	if drains {
		s.flagged = rueidis.NewLuaScript("#!lua flags=allow-oom\n" + text)
	}
	return s
}

func source(name string) string {
	text, err := sources.ReadFile("scripts/" + name + ".lua")
	if err != nil {
		panic(err) // they are part of the binary
	}
	return string(text)
}
