package contract

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Limits of the hold: how long a caller waits for the answer of a stored call.
const (
	DefaultHold = 10 * time.Second
	MaxHold     = 300 * time.Second
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
		for preference := range strings.SplitSeq(line, ",") {
			token, _, _ := strings.Cut(preference, ";") // parameters
			name, value, _ := strings.Cut(token, "=")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "respond-async":
				p.Async = true
			case "wait":
				seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
				if err == nil && !p.HasWait {
					p.Wait, p.HasWait = min(time.Duration(seconds)*time.Second, MaxHold), true
				}
			}
		}
	}
	return p
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

// Applied is the Preference-Applied header that goes with it; empty for none.
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

// Key reads the Idempotency-Key: 1 to 255 visible ASCII characters, with or
// without the quotes of a structured field. ok is false for anything else;
// an absent one is empty and ok.
func Key(header http.Header) (key string, ok bool) {
	values, given := header[HeaderKey]
	if !given {
		return "", true
	}
	if len(values) != 1 {
		return "", false
	}
	key = strings.TrimSpace(values[0])
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = key[1 : len(key)-1]
	}
	if key == "" || len(key) > 255 {
		return "", false
	}
	for _, c := range []byte(key) {
		if c < '!' || c > '~' {
			return "", false
		}
	}
	return key, true
}
