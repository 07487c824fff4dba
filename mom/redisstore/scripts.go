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
	// args are the names of its arguments, in the order of ARGV.
	args []string
	// flagged begins with the line that allows writes at maxmemory: the scripts that drain the
	// queues must work when the queues have filled Redis.
	flagged form
	// plain is for servers before Redis 7, and for those that do not tell their version.
	plain form
	// upkeep: it uses the places for upkeep, not those that callers and replay wait for.
	upkeep bool
}

// form is the text of a script, and what calls the script by the hash of this text.
type form struct {
	text string
	lua  *rueidis.Lua
}

func newForm(text string) form { return form{text, rueidis.NewLuaScript(text)} }

var (
	turnScript      = newTurn()
	addTurnScript   = newTurn().needsRoom()
	renewScript     = newScript("renew", "held").asUpkeep()
	releaseScript   = newScript("release", "held", "finish", "give_back")
	takeBackScript  = newScript("take_back", "finish", "give_back")
	putBackScript   = newScript("put_back", "held", "finish")
	bypassScript    = newScript("bypass", "held", "parked", "park")
	spendScript     = newScript("spend", "held", "finish", "parked", "park")
	parkScript      = newScript("park", "held", "parked", "park")
	cancelScript    = newScript("cancel", "finish", "parked", "unpark", "give_up", "pass_over").asUpkeep()
	abandonScript   = newScript("abandon", "finish", "pass_over", "offered").asUpkeep()
	keepScript      = newScript("keep")
	listenScript    = newScript("listen")
	callScript      = newScript("call", "say", "call").asUpkeep()
	dismissScript   = newScript("dismiss", "finish", "parked", "unpark", "give_up")
	retryScript     = newScript("retry", "parked", "unpark", "retry")
	retryDeadScript = newScript("retry_dead", "parked", "unpark", "retry")
	restoreScript   = newScript("restore", "parked", "park").asUpkeep()
	reapScript      = newScript("reap", "finish", "give_back", "parked", "unpark", "park", "give_up", "reap_parked", "end_leases", "pass_over", "skip").asUpkeep()
	countScript     = newScript("count_parked", "parked").asUpkeep()
	rouseScript     = newScript("rouse").asUpkeep()
	depthScript     = newScript("depth", "parked").asUpkeep()
	endedScript     = newScript("ended").asUpkeep()
	pauseScript     = newScript("pause")
	limitScript     = newScript("limit")
	numberScript    = newScript("number").asUpkeep()

	identifyScript = join("identify", "", "identify").asUpkeep()
	swapScript     = join("swap", "", "swap").asUpkeep()
)

// newScript builds a script of a shard. Only the shared files that it names are prepended: Lua defines
// their functions anew at each call. With all files this took a sixth of the time of an add.
func newScript(name string, shared ...string) *script {
	files := []string{"shared/core"}
	for _, part := range shared {
		files = append(files, "shared/"+part)
	}
	return join(name, constants, append(files, name)...)
}

// join makes one script of several files. The constants come first, then a local variable for each
// argument that a file lists, then the files.
func join(name, constants string, files ...string) *script {
	s := &script{name: name}
	var locals, body strings.Builder
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
	text := constants + locals.String() + body.String()
	s.plain, s.flagged = newForm(text), newForm("#!lua flags=allow-oom\n"+text)
	return s
}

func newTurn() *script {
	return newScript("turn", "say", "held", "finish", "skip", "parked", "park", "offered", "mark", "settle", "hold", "add", "lease", "call")
}

// needsRoom makes a server at its maxmemory refuse the script.
func (s *script) needsRoom() *script {
	s.flagged = s.plain
	return s
}

func (s *script) asUpkeep() *script {
	s.upkeep = true
	return s
}

// lastState is the state with the highest number.
var lastState = slices.Max(slices.Collect(maps.Keys(momv1.TaskState_name)))

// constants are what the scripts of a shard share with Go.
var constants = func() string {
	var lua strings.Builder
	for _, number := range slices.Sorted(maps.Keys(momv1.TaskState_name)) {
		fmt.Fprintf(&lua, "local %s = '%d'\n", strings.Replace(momv1.TaskState_name[number], "TASK_STATE", "S", 1), number)
	}
	fmt.Fprintf(&lua, "local LAST_STATE, BULK, WAIT_MAX, NEWEST_RECORD = %d, %d, %d, %d\n", lastState, bulkBatch, mom.LongestWait.Milliseconds(), mom.NewestRecord)
	return lua.String()
}()

// argvLines matches the arguments in the header of a file: what follows ARGV:, also on further
// lines that are indented, up to an explanation in brackets.
var argvLines = regexp.MustCompile(`-- ARGV:([^(\n]*(?:\n-- {7}[^(\n]*)*)`)

// listed returns the arguments that a file lists.
func listed(text string) []string {
	lines := argvLines.FindStringSubmatch(text)
	if lines == nil {
		return nil
	}
	return strings.Fields(strings.ReplaceAll(lines[1], "\n--", ""))
}

func source(name string) string {
	text, err := sources.ReadFile("scripts/" + name + ".lua")
	if err != nil {
		panic(err) // they are part of the binary
	}
	return string(text)
}
