package contract

import (
	"errors"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Preference is what a Prefer header asks for (RFC 7240), as far as Holdline
// knows it. Preferences that are unknown or cannot be read are ignored, as the
// RFC wants it.
type Preference struct {
	// Async: store the call at once.
	Async bool
	// Wait bounds the hold; meaningful if HasWait.
	Wait    time.Duration
	HasWait bool
}

// Prefer reads all Prefer headers; the first of two equal preferences counts.
func Prefer(header http.Header) (p Preference) {
	for _, line := range header[HeaderPrefer] {
		for preference := range list(line) {
			token, _, _ := strings.Cut(preference, ";") // parameters
			name, value, _ := strings.Cut(token, "=")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "respond-async":
				p.Async = true
			case "wait":
				seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 64)
				if (err == nil || errors.Is(err, strconv.ErrRange)) && !p.HasWait {
					p.Wait, p.HasWait = time.Duration(min(seconds, uint64(MaxHold/time.Second)))*time.Second, true
				}
			}
		}
	}
	return p
}

// list splits a header at its commas, but not within quotes.
func list(line string) iter.Seq[string] {
	quoted, escaped := false, false
	return strings.FieldsFuncSeq(line, func(c rune) bool {
		switch {
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		}
		return c == ',' && !quoted
	})
}

// Hold is how long the caller wants to wait: not at all for a bare
// respond-async, DefaultHold unless it said otherwise.
func (p Preference) Hold() time.Duration {
	switch {
	case p.HasWait:
		return p.Wait
	case p.Async:
		return 0
	}
	return DefaultHold
}

// HandleMargin is how long before a caller's deadline its handle leaves, so that it
// arrives in time.
func HandleMargin(left time.Duration) time.Duration {
	return min(max(left/10, 20*time.Millisecond), 250*time.Millisecond)
}

// Applied is the Preference-Applied header for these preferences. It is empty when there are none.
func (p Preference) Applied() string {
	var applied []string
	if p.Async {
		applied = append(applied, "respond-async")
	}
	if p.HasWait {
		applied = append(applied, "wait="+strconv.Itoa(int(p.Wait/time.Second)))
	}
	return strings.Join(applied, ", ")
}
