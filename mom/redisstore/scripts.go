package redisstore

import (
	"embed"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/redis/rueidis"

	momv1 "holdline/gen/mom/v1"
	"holdline/mom"
)

//go:embed scripts/*.lua scripts/shared/*.lua
var sources embed.FS

// A script is one transition, in the two forms that servers understand.
type script struct {
	name string
	// args are the names of its arguments, in the order of ARGV. The headers of its files list them.
	args []string
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

	identifyScript = scriptOf("identify", true, "", "identify").asUpkeep()
	swapScript     = scriptOf("swap", true, "", "swap").asUpkeep()
)

// newScript puts a script together. Only what it shares is prepended: Lua builds
// all of it anew at each call, a sixth of what an add took.
func newScript(name string, drains bool, shared ...string) *script {
	files := []string{"shared/core"}
	for _, part := range shared {
		files = append(files, "shared/"+part)
	}
	return scriptOf(name, drains, constants, append(files, name)...)
}

// scriptOf joins files, behind the constants and a local variable for each argument that the
// headers of the files list.
func scriptOf(name string, drains bool, constants string, files ...string) *script {
	s := &script{name: name}
	var locals, body strings.Builder
	locals.WriteString(constants)
	for _, file := range files {
		text := source(file)
		body.WriteString("\n" + text)
		for _, arg := range listed(text) {
			name, _, isNumber := strings.Cut(arg, ":")
			place := len(s.args) + 1
			switch {
			case name == "...":
				fmt.Fprintf(&locals, "local rest = %d\n", place)
				continue
			case isNumber:
				fmt.Fprintf(&locals, "local %s = tonumber(ARGV[%d])\n", name, place)
			default:
				fmt.Fprintf(&locals, "local %s = ARGV[%d]\n", name, place)
			}
			s.args = append(s.args, name)
		}
	}
	text := locals.String() + body.String()
	s.plain, s.plainText = rueidis.NewLuaScript(text), text
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

// constants are what the scripts of a shard share with Go.
var constants = func() string {
	var lua strings.Builder
	for _, number := range slices.Sorted(maps.Keys(momv1.TaskState_name)) {
		fmt.Fprintf(&lua, "local %s = '%d'\n", strings.Replace(momv1.TaskState_name[number], "TASK_STATE", "S", 1), number)
	}
	fmt.Fprintf(&lua, "local BULK, WAIT_MAX, NEWEST_RECORD = %d, %d, %d\n", bulkBatch, mom.LongestWait.Milliseconds(), mom.NewestRecord)
	return lua.String()
}()

// argvLines matches the arguments in a file's header, as far as they are not explained: ARGV:, and
// the lines below it that are indented.
var argvLines = regexp.MustCompile(`-- ARGV:([^(\n]*(?:\n-- {7}[^(\n]*)*)`)

// listed are the arguments that a file lists.
func listed(text string) []string {
	lines := argvLines.FindStringSubmatch(text)
	if lines == nil {
		return nil
	}
	return strings.Fields(strings.ReplaceAll(lines[1], "\n--", ""))
}

// args are the arguments of a script, by name.
type args map[string]string

// argv puts arguments into the places where the script looks for them, and the rest behind these.
// A name that is missing, or that the script does not list, is a mistake in this package.
func (s *script) argv(given args, rest []string) []string {
	argv := make([]string, 0, len(s.args)+len(rest))
	for _, name := range s.args {
		value, ok := given[name]
		if !ok {
			panic("script " + s.name + " is called without " + name)
		}
		argv = append(argv, value)
	}
	if len(given) != len(s.args) {
		panic(fmt.Sprintf("script %s is called with %d arguments, and lists %v", s.name, len(given), s.args))
	}
	return append(argv, rest...)
}

func source(name string) string {
	text, err := sources.ReadFile("scripts/" + name + ".lua")
	if err != nil {
		panic(err) // they are part of the binary
	}
	return string(text)
}
