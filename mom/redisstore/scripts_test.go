package redisstore

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// all returns all scripts. Each of them has a file.
func all(t *testing.T) []*script {
	t.Helper()
	list := []*script{
		turnScript, renewScript, releaseScript, takeBackScript, putBackScript, bypassScript, spendScript,
		parkScript, cancelScript, abandonScript, keepScript, listenScript, callScript, dismissScript, retryScript, retryDeadScript, restoreScript,
		reapScript, countScript, rouseScript, depthScript, endedScript, pauseScript, limitScript, numberScript, identifyScript, swapScript, rightsScript,
	}
	files, err := fs.Glob(sources, "scripts/*.lua")
	if err != nil || len(files) != len(list) {
		t.Fatalf("%d scripts, %v, in %d files", len(list), err, len(files))
	}
	return list
}

var (
	// A comment, or a text.
	silent = regexp.MustCompile(`--.*|'[^']*'`)
	// Names that are declared: a function with its parameters, local variables, or those of a loop.
	declared = regexp.MustCompile(`\b(?:local )?function ?\w*\([\w, ]*|\blocal [\w, ]+|\bfor [\w, ]+`)
	// A name, unless it is a field.
	word = regexp.MustCompile(`(?:^|[^\w.]|\.\.)([A-Za-z_]\w*)`)
	// A field of a table, where it is given its value.
	field = regexp.MustCompile(`[{,]\s*\w+ = `)
)

// known are the words of Lua, and what Redis gives to every script.
var known = strings.Fields(`and break do else elseif end false for function if in local nil not or repeat return then true until while
	KEYS ARGV redis string math table tonumber type ipairs pairs unpack pcall error`)

// A script uses each argument that its header lists, by its name, and no undeclared name: Redis
// reports such a name only when the script comes to it.
func TestScriptsUseTheirArguments(t *testing.T) {
	t.Parallel()
	for _, sc := range all(t) {
		own := silent.ReplaceAllString(source(sc.name), "")
		if sc == turnScript { // the shared files have their own arguments
			for _, shared := range []string{"mark", "settle", "hold", "add", "lease"} {
				own += silent.ReplaceAllString(source("shared/"+shared), "")
			}
		}
		for _, name := range sc.args {
			if name != "base" && !regexp.MustCompile(`\b`+name+`\b`).MatchString(own) {
				t.Errorf("%s.lua lists the argument %s and does not use it", sc.name, name)
			}
		}
		if regexp.MustCompile(`ARGV\[\d`).MatchString(own) {
			t.Errorf("%s.lua uses an argument by its place", sc.name)
		}
		text := silent.ReplaceAllString(sc.plain.text, "")
		names := slices.Clone(known)
		for _, list := range declared.FindAllString(text, -1) {
			names = append(names, strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(",( ", r) })...)
		}
		for _, used := range word.FindAllStringSubmatch(field.ReplaceAllString(text, " "), -1) {
			if !slices.Contains(names, used[1]) {
				t.Errorf("%s.lua, or what it shares, uses %s, which nothing declares", sc.name, used[1])
			}
		}
	}
}

// A script that is called without a listed argument, or with another one, panics at once.
func TestScriptsRefuseOtherArguments(t *testing.T) {
	t.Parallel()
	if got := retryScript.argv(args{"ulid": "u", "base": "b"}, []string{"more"}); !slices.Equal(got, []string{"b", "u", "more"}) {
		t.Errorf("got %v, want them in the order of %v", got, retryScript.args)
	}
	for what, given := range map[string]args{
		"one is missing":  {"base": "b"},
		"one too many":    {"base": "b", "ulid": "u", "epoch": "1"},
		"another instead": {"base": "b", "epoch": "1"},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", what)
				}
			}()
			retryScript.argv(given, nil)
		}()
	}
}
