package redisstore

import (
	"embed"

	"github.com/redis/rueidis"
)

//go:embed scripts/*.lua
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
	leaseScript      = newScript("lease", true)
	renewScript      = newScript("renew", true)
	markScript       = newScript("mark", true)
	settleScript     = newScript("settle", true)
	releaseScript    = newScript("release", true)
	retryScript      = newScript("retry", true)
	parkScript       = newScript("park", true)
	cancelScript     = newScript("cancel", true)
	reviveScript     = newScript("revive", true)
	reviveDeadScript = newScript("revive_dead", true)
	reapScript       = newScript("reap", true)
	depthScript      = newScript("depth", true)
	pauseScript      = newScript("pause", true)
)

func newScript(name string, drains bool) *script {
	text := source("common") + "\n" + source(name)
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
