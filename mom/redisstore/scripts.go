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
	// texts are the sources of both.
	flaggedText, plainText string
	// upkeep: it has places of its own, apart from those that callers and replay wait for.
	upkeep bool
}

var (
	addScript        = newScript("add", false)
	leaseScript      = newScript("lease", true, "finish", "skip")
	renewScript      = newScript("renew", true, "held").asUpkeep()
	markScript       = newScript("mark", true, "held", "parked", "park")
	settleScript     = newScript("settle", true, "held", "finish")
	releaseScript    = newScript("release", true, "held", "finish", "give_back")
	putBackScript    = newScript("put_back", true, "held", "finish")
	bypassScript     = newScript("bypass", true, "held", "parked", "park")
	retryScript      = newScript("retry", true, "held", "finish", "parked", "park")
	parkScript       = newScript("park", true, "held", "parked", "park")
	cancelScript     = newScript("cancel", true, "finish", "parked", "unpark", "give_up", "pass_over").asUpkeep()
	abandonScript    = newScript("abandon", true, "finish", "pass_over").asUpkeep()
	keepScript       = newScript("keep", true)
	dismissScript    = newScript("dismiss", true, "finish", "parked", "unpark", "give_up")
	reviveScript     = newScript("revive", true, "parked", "unpark", "revive")
	reviveDeadScript = newScript("revive_dead", true, "parked", "unpark", "revive")
	restoreScript    = newScript("restore", true, "parked", "park").asUpkeep()
	reapScript       = newScript("reap", true, "finish", "give_back", "parked", "unpark", "park", "give_up", "reap_parked", "end_leases", "pass_over", "skip").asUpkeep()
	countScript      = newScript("count_parked", true, "parked").asUpkeep()
	rouseScript      = newScript("rouse", true).asUpkeep()
	depthScript      = newScript("depth", true, "parked").asUpkeep()
	pauseScript      = newScript("pause", true)
	limitScript      = newScript("limit", true)

	numberScript = newScript("number", true).asUpkeep()

	identifyScript = scriptOf("identify", true, source("identify"))
	swapScript     = scriptOf("swap", true, source("swap"))
)

// newScript puts a script together. Only what it shares is prepended: Lua builds
// all of it anew at each call, a sixth of what an add took.
func newScript(name string, drains bool, shared ...string) *script {
	text := source("shared/core")
	for _, part := range shared {
		text += "\n" + source("shared/"+part)
	}
	return scriptOf(name, drains, text+"\n"+source(name))
}

func scriptOf(name string, drains bool, text string) *script {
	s := &script{name: name, plain: rueidis.NewLuaScript(text), plainText: text}
	s.flagged, s.flaggedText = s.plain, text
	if drains {
		s.flaggedText = "#!lua flags=allow-oom\n" + text
		s.flagged = rueidis.NewLuaScript(s.flaggedText)
	}
	return s
}

func (s *script) asUpkeep() *script {
	s.upkeep = true
	return s
}

func source(name string) string {
	text, err := sources.ReadFile("scripts/" + name + ".lua")
	if err != nil {
		panic(err) // they are part of the binary
	}
	return string(text)
}
