package openapi

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// object is a mapping in the order that a reader wants it in.
type object []field

type field struct {
	key   string
	value any // an object, a list of them, JSON, a plain value, or fields or later of those
}

// fields are a mapping that is made while it is written, since all of it at once would
// take much memory.
type fields iter.Seq[field]

// later is a value that is known once all before it has been written.
type later func() any

// ref points to a component, such as {"schemas", "mom.v1.Task"}.
func ref(kind, name string) object {
	return object{{"$ref", "#/components/" + kind + "/" + name}}
}

// with adds a field unless its value is empty.
func (o object) with(key, value string) object {
	if value == "" {
		return o
	}
	return append(o, field{key, value})
}

// writer writes YAML as it comes. It keeps the first error.
type writer struct {
	out io.Writer
	err error
}

func (w *writer) write(parts ...string) {
	for _, part := range parts {
		if w.err == nil {
			_, w.err = io.WriteString(w.out, part)
		}
	}
}

// indent begins each level.
const indent = "  "

// mapping writes fields, each on lines of its own behind a margin. The first line may
// have begun already, with the dash of a list.
func (w *writer) mapping(all iter.Seq[field], margin string, begun bool) {
	empty := true
	for f := range all {
		if !begun || !empty {
			w.write("\n", margin)
		}
		empty = false
		w.write(scalar(f.key), ":")
		w.value(f.value, margin)
	}
	if empty {
		w.write(" {}")
	}
}

// value writes what follows a colon.
func (w *writer) value(value any, margin string) {
	switch v := value.(type) {
	case later:
		w.value(v(), margin)
	case object:
		w.mapping(slices.Values(v), margin+indent, false)
	case fields:
		w.mapping(iter.Seq[field](v), margin+indent, false)
	case []object:
		if len(v) == 0 {
			w.write(" []")
		}
		for _, item := range v {
			w.write("\n", margin, indent, "-")
			if len(item) > 0 {
				w.write(" ")
			}
			w.mapping(slices.Values(item), margin+indent+indent, true)
		}
	case json.RawMessage: // is YAML too
		w.write(" ", strings.TrimSpace(string(v)))
	case string:
		w.write(" ", scalar(v))
	case []string:
		if len(v) == 0 {
			w.write(" []")
		}
		for _, item := range v {
			w.write("\n", margin, indent, "- ", scalar(item))
		}
	case []any: // examples have no other
		w.write(" []")
	default: // numbers and booleans
		w.write(" ", fmt.Sprint(v))
	}
}

// words mean something else without quotes, to some version of YAML.
var words = []string{"true", "false", "yes", "no", "on", "off", "y", "n", "null"}

// scalar writes a string: as it is, or with quotes and escapes, which are Go's too.
func scalar(s string) string {
	if plain(s) && !slices.Contains(words, strings.ToLower(s)) {
		return s
	}
	return strconv.Quote(strings.ToValidUTF8(s, "\uFFFD"))
}

// plain text begins with a letter or as a path or reference does, and has nothing that
// is YAML's own.
func plain(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '/', c == '$':
		case i == 0:
			return false
		case '0' <= c && c <= '9', strings.IndexByte("_.-,(){}'", c) >= 0:
		case c == ' ' && i < len(s)-1:
		default:
			return false
		}
	}
	return s != ""
}
