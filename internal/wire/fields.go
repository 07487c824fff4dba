package wire

import (
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
)

// AddFields adds fields to a header; nil: to a new one.
func AddFields(header http.Header, fields []hpack.HeaderField) http.Header {
	if header == nil {
		header = make(http.Header, len(fields))
	}
	values := make([]string, len(fields))
	for i, f := range fields {
		key := Canonical(f.Name)
		if had := header[key]; had != nil {
			header[key] = append(had, f.Value)
			continue
		}
		values[i] = f.Value
		header[key] = values[i : i+1 : i+1]
	}
	return header
}

// AppendFields appends the values of a header. As in net/http, those that HTTP/2 does not allow are left out.
func AppendFields(fields []hpack.HeaderField, key string, values ...string) []hpack.HeaderField {
	name := Lower(key)
	if len(values) == 0 || OfConnection(name) || !httpguts.ValidHeaderFieldName(name) {
		return fields
	}
	for _, value := range values {
		if httpguts.ValidHeaderFieldValue(value) {
			fields = append(fields, hpack.HeaderField{Name: name, Value: value})
		}
	}
	return fields
}

// OfConnection tells whether a header, with its name in lower case, is one that HTTP/2 does not have.
func OfConnection(name string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// Canonical is the name of a field as http.Header has it, and Lower as HTTP/2 has it.
func Canonical(name string) string { return names.to(name, http.CanonicalHeaderKey) }

// Lower is the inverse of Canonical.
func Lower(key string) string { return lowered.to(key, strings.ToLower) }

// knownNames keeps what was made of the first maxNames names: nearly all headers have one of a few. To look one up takes no lock.
type knownNames struct {
	all    atomic.Pointer[map[string]string] // replaced, never changed
	adding sync.Mutex
}

const maxNames = 1000

// names are those of http.Header, by those of HTTP/2, and lowered the other way round.
var names, lowered knownNames

func (k *knownNames) to(name string, make func(string) string) string {
	if made, ok := k.known()[name]; ok {
		return made
	}
	made := make(name)
	k.adding.Lock()
	defer k.adding.Unlock()
	if all := k.known(); len(all) < maxNames {
		more := maps.Clone(all)
		if more == nil {
			more = map[string]string{}
		}
		more[name] = made
		k.all.Store(&more)
	}
	return made
}

func (k *knownNames) known() map[string]string {
	if all := k.all.Load(); all != nil {
		return *all
	}
	return nil
}

// Date is the Date header of a response that is written now.
func Date() string {
	now := time.Now().Unix()
	said := date.Load()
	if said == nil || said.at != now {
		said = &dated{now, time.Unix(now, 0).UTC().Format(http.TimeFormat)}
		date.Store(said)
	}
	return said.text
}

// date is the last one that was written.
var date atomic.Pointer[dated]

type dated struct {
	at   int64 // Unix time
	text string
}
