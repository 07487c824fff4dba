package redisstore

import (
	"embed"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
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
	// plain is for servers before Redis 7, and for servers that do not report their version.
	plain form
	// upkeep: it uses the places for upkeep, not those that callers and replay wait for.
	upkeep bool
	// reads: it writes nothing that could be left half done.
	reads bool
}

// form is the text of a script, and the rueidis value that calls the script by the hash of this text.
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
	putBackScript   = newScript("put_back", "held", "finish", "wait")
	bypassScript    = newScript("bypass", "held", "parked", "park")
	spendScript     = newScript("spend", "held", "finish", "parked", "park")
	parkScript      = newScript("park", "held", "parked", "park")
	cancelScript    = newScript("cancel", "finish", "parked", "unpark", "give_up", "pass_over").asUpkeep()
	abandonScript   = newScript("abandon", "finish", "pass_over", "offered").asUpkeep()
	keepScript      = newScript("keep")
	listenScript    = newScript("listen").asRead()
	callScript      = newScript("call", "say", "call").asUpkeep()
	dismissScript   = newScript("dismiss", "finish", "parked", "unpark", "give_up")
	retryScript     = newScript("retry", "parked", "unpark", "retry")
	retryDeadScript = newScript("retry_dead", "parked", "unpark", "retry")
	restoreScript   = newScript("restore", "parked", "park").asUpkeep()
	reapScript      = newScript("reap", "finish", "give_back", "parked", "unpark", "park", "give_up", "reap_parked", "end_leases", "pass_over", "skip").asUpkeep()
	countScript     = newScript("count_parked", "parked").asUpkeep()
	rouseScript     = newScript("rouse").asUpkeep()
	depthScript     = newScript("depth", "parked", "wait").asUpkeep().asRead()
	endedScript     = newScript("ended").asUpkeep().asRead()
	pauseScript     = newScript("pause")
	limitScript     = newScript("limit")
	numberScript    = newScript("number").asUpkeep()

	identifyScript = join("identify", source("identify")).asUpkeep()
	swapScript     = join("swap", source("swap")).asUpkeep()
	rightsScript   = join("rights", source("rights"))
)

// newScript builds a script of a shard from its own file and the named shared files, or the parts that lazily has made of such files.
func newScript(name string, shared ...string) *script {
	texts := []string{source("shared/core")}
	for _, part := range shared {
		if !strings.Contains(part, "\n") {
			part = source("shared/" + part)
		}
		texts = append(texts, part)
	}
	return join(name, append(texts, source(name))...)
}

// lazily makes a part of a script from shared files. A function of this name returns a table with the functions of the files, and defines
// them only when it is first called: defining one takes Lua 0.2 µs, at each call of the script.
func lazily(name string, shared ...string) string {
	var body, table strings.Builder
	for _, part := range shared {
		text := source("shared/" + part)
		body.WriteString(text)
		for _, function := range functionLines.FindAllStringSubmatch(text, -1) {
			fmt.Fprintf(&table, "%[1]s = %[1]s, ", function[1])
		}
	}
	return fmt.Sprintf("local defined_%[1]s\nlocal function %[1]s()\nif not defined_%[1]s then\n%[2]sdefined_%[1]s = {%[3]s}\nend\nreturn defined_%[1]s\nend\n",
		name, body.String(), table.String())
}

// functionLines matches the functions that a file defines for others.
var functionLines = regexp.MustCompile(`(?m)^local function (\w+)`)

// join makes one script from several texts: a local variable for each argument that a text lists, and
// then the texts. All texts but the first are in a function of their own, to save time. When Lua makes a function, it finds each variable of the function directly around it by a search through all variables that are shared
// there (luaF_findupval); it finds variables from farther out at once. Without the function of their own, this search takes 7 of the 17 µs of a turn that does nothing.
func join(name string, texts ...string) *script {
	s := &script{name: name}
	var locals, body strings.Builder
	for i, text := range texts {
		if i == 1 {
			body.WriteString("\nreturn (function()")
		}
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
	if len(texts) > 1 {
		body.WriteString("end)()\n")
	}
	text := constantNames.ReplaceAllStringFunc(locals.String()+body.String(), func(name string) string { return constants[name] })
	s.plain, s.flagged = newForm(text), newForm("#!lua flags=allow-oom\n"+text)
	return s
}

func newTurn() *script {
	return newScript("turn", "say", "hold", lazily("rare", "held", "finish", "skip", "parked", "park", "offered"),
		lazily("marking", "mark"), lazily("ending", "settle"), lazily("adding", "add"), lazily("leasing", "wait", "lease"), "call")
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

func (s *script) asRead() *script {
	s.reads = true
	return s
}

// lastState is the state with the highest number.
var lastState = slices.Max(slices.Collect(maps.Keys(momv1.TaskState_name)))

// constants are the values that the scripts share with Go: each name in a script is replaced by its text here.
var constants = func() map[string]string {
	all := map[string]string{
		"LAST_STATE": strconv.Itoa(int(lastState)), "BULK": strconv.Itoa(bulkBatch), "NEWEST_RECORD": strconv.Itoa(mom.NewestRecord),
		"WAIT_MAX": strconv.FormatInt(mom.LongestWait.Milliseconds(), 10), "RIGHT_WORDS": "{'" + strings.Join(rightWords, "', '") + "'}",
		"LEASE_BYTES": strconv.Itoa(mom.LeaseBytes),
	}
	for number, name := range momv1.TaskState_name {
		all[strings.Replace(name, "TASK_STATE", "S", 1)] = fmt.Sprintf("'%d'", number)
	}
	return all
}()

var constantNames = regexp.MustCompile(`\b(?:` + strings.Join(slices.Collect(maps.Keys(constants)), "|") + `)\b`)

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
