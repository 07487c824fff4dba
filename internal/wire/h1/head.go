package h1

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"

	"holdline/internal/wire"
)

// Heads are read here only if they are as most are. All others are left to net/http, unread. So what is taken here is what net/http
// takes, too, and has the same meaning there.

// maxPlainHead is the largest head of a plain call, in bytes.
const maxPlainHead = 8 << 10

var endOfHead = []byte("\r\n\r\n")

// headOf is the head at the beginning of what was read: nil if its end has not come.
func headOf(raw []byte) []byte {
	end := bytes.Index(raw[:min(len(raw), maxPlainHead)], endOfHead)
	if end < 0 {
		return nil
	}
	return raw[:end+len(endOfHead)]
}

// head is the head of a message.
type head struct {
	first     string // the words that are its own in the first line: a path, or a status
	host      string
	keepAlive string
	length    int // of the body; -1: it is not said
	chunked   bool
	fields    []hpack.HeaderField
	usual     [16]hpack.HeaderField // room for those of most
}

// parse reads a head that begins and ends its first line in these ways. It returns false for one that is not as most are. The names of
// its fields are in lower case; Host, Connection and Transfer-Encoding are not among them. scratch is room for a copy.
func (h *head) parse(raw []byte, begins, ends string, scratch []byte) (_ []byte, ok bool) {
	scratch = append(scratch[:0], raw...)
	if !lowerNames(scratch) {
		return scratch, false
	}
	line, rest, _ := strings.Cut(string(scratch), "\r\n")
	line, began := strings.CutPrefix(line, begins)
	line, ended := strings.CutSuffix(line, ends)
	if !began || !ended {
		return scratch, false
	}
	h.first, h.host, h.keepAlive, h.length, h.chunked, h.fields = line, "", "", -1, false, h.fields[:0]
	if h.fields == nil {
		h.fields = h.usual[:0]
	}
	for rest != "\r\n" {
		line, rest, _ = strings.Cut(rest, "\r\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !httpguts.ValidHeaderFieldValue(value) || !h.add(name, value) {
			return scratch, false
		}
	}
	return scratch, true
}

// add takes a field. It returns false for one by which net/http would read the message in another way than most.
func (h *head) add(name, value string) bool {
	switch name {
	case "host":
		had := h.host
		h.host = value
		return had == "" && value != "" && httpguts.ValidHostHeader(value)
	case "connection":
		return strings.EqualFold(value, "keep-alive")
	case "keep-alive":
		h.keepAlive = value
	case "content-length":
		if h.length >= 0 {
			return false
		}
		if h.length = length(value); h.length < 0 {
			return false
		}
	case "transfer-encoding":
		had := h.chunked
		h.chunked = true
		return !had && strings.EqualFold(value, "chunked")
	case "trailer", "upgrade", "expect":
		return false
	}
	h.fields = append(h.fields, hpack.HeaderField{Name: name, Value: value})
	return true
}

// length reads a Content-Length; -1 for a large one, and for what is none.
func length(value string) int {
	n := 0
	for i := range len(value) {
		digit := value[i] - '0'
		if n = 10*n + int(digit); digit > 9 || n > wire.MaxPlain {
			return -1
		}
	}
	if value == "" {
		return -1
	}
	return n
}

// lowerNames has the names of all fields of a head in lower case. It returns false if one is no name.
func lowerNames(raw []byte) bool {
	for {
		raw = raw[bytes.IndexByte(raw, '\n')+1:]
		if len(raw) == len("\r\n") {
			return true
		}
		for i := 0; ; i++ {
			b := lower[raw[i]]
			if b == 0 {
				if i == 0 || raw[i] != ':' {
					return false
				}
				break
			}
			raw[i] = b
		}
	}
}

// lower are the bytes of names in lower case; 0 for those that are in no name.
var lower [256]byte

func init() {
	for b := range 256 {
		if name := string(rune(b)); b < 128 && httpguts.ValidHeaderFieldName(name) {
			lower[b] = strings.ToLower(name)[0]
		}
	}
}

// appendFields appends fields, but for Content-Length, with their names as net/http writes them.
func appendFields(out []byte, fields []hpack.HeaderField) []byte {
	for _, f := range fields {
		if f.Name == "content-length" {
			continue
		}
		begins := true
		for i := range len(f.Name) {
			b := f.Name[i]
			if begins && 'a' <= b && b <= 'z' {
				b -= 'a' - 'A'
			}
			begins = b == '-'
			out = append(out, b)
		}
		out = append(append(append(out, ": "...), f.Value...), "\r\n"...)
	}
	return out
}

// unchunk appends the chunks at the beginning of raw to a body, and tells how long all of them are. whole is false if their end has not come, and plain if
// they are not as most are.
func unchunk(body, raw []byte) (_ []byte, n int, plain, whole bool) {
	for rest := raw; ; {
		line, after, found := bytes.Cut(rest, crlf)
		if !found {
			return body, 0, len(rest) <= maxSizeLine && !hasBareBreak(rest), false
		}
		size, err := strconv.ParseUint(string(line), 16, 32)
		switch {
		case err != nil || len(line) > maxSizeLine || len(body)+int(size) > wire.MaxPlain:
			return body, 0, false, false
		case len(after) < int(size)+len(crlf):
			return body, 0, true, false
		case !bytes.HasPrefix(after[size:], crlf): // or a trailer
			return body, 0, false, false
		}
		body, rest = append(body, after[:size]...), after[int(size)+len(crlf):]
		if size == 0 {
			return body, len(raw) - len(rest), true, true
		}
	}
}

// hasBareBreak tells whether some line ends without a CR. net/http may take such a head for whole: who waits for the rest would wait for ever.
func hasBareBreak(raw []byte) bool {
	return bytes.Count(raw, crlf[1:]) > bytes.Count(raw, crlf)
}

// maxSizeLine is the most digits of a chunk's size.
const maxSizeLine = 8

var crlf = []byte("\r\n")
