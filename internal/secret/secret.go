// Package secret has the secret that gateways and MOMs share. With it, a MOM can tell its gateways from all
// others that reach its port.
package secret

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"holdline/internal/contract"
	"holdline/internal/logonce"
)

// fileAge is the minimum time between two reads of the file, so that it is not read for each call.
const fileAge = time.Second

// maxLine is the maximum length of a secret: a MOM accepts few headers beside those of a call.
const maxLine = 1024

// Secret is one or more lines of visible ASCII. Show uses the first line, and Take accepts each line, so that
// a new line can be handed out before the old one is removed. It is safe for concurrent use.
//
// A nil Secret shows nothing, and accepts everybody.
type Secret struct {
	file string // empty: it never changes
	log  *slog.Logger
	once *logonce.Logger // for errors, which last until somebody repairs the file

	mu     sync.Mutex
	read   time.Time
	raw    []byte // what was read last, usable or not
	first  string
	hashes [][sha256.Size]byte // of all lines
}

// Open reads the secret from a file. When the file changes, the secret is read again. If the new text cannot
// be used, that is logged, and the old secret stays.
func Open(file string, log *slog.Logger) (*Secret, error) {
	s := &Secret{file: file, log: log, once: logonce.New(log), read: time.Now()}
	raw, err := os.ReadFile(file)
	if err == nil {
		s.raw = raw
		err = s.use(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("secret of gateway and MOM: %w", err)
	}
	return s, nil
}

// Random returns a new secret for a gateway and a MOM in the same process.
func Random() *Secret {
	s := &Secret{}
	_ = s.use([]byte(rand.Text())) // it is visible ASCII: no error
	return s
}

// Show puts the secret into the headers of a request to a MOM.
func (s *Secret) Show(header http.Header) {
	if s != nil {
		header.Set(contract.HeaderSecret, s.Line())
	}
}

// Line is what Show shows; empty without a Secret.
func (s *Secret) Line() string {
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	return s.first
}

// Take removes the secret from the headers of a request, and tells whether it is right.
func (s *Secret) Take(header http.Header) bool {
	shown := header[contract.HeaderSecret]
	delete(header, contract.HeaderSecret)
	return s.Is(shown)
}

// Is tells whether what the headers of a request show is right. The time that this takes reveals nothing about
// the secret.
func (s *Secret) Is(shown []string) bool {
	if s == nil {
		return true
	}
	if len(shown) != 1 {
		return false
	}
	hash, same := sha256.Sum256([]byte(shown[0])), 0
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	for _, known := range s.hashes {
		same |= subtle.ConstantTimeCompare(hash[:], known[:])
	}
	return same == 1
}

// refresh reads the file again, if the last read was at least fileAge ago.
func (s *Secret) refresh() {
	now := time.Now()
	if s.file == "" || now.Sub(s.read) < fileAge {
		return
	}
	s.read = now
	raw, err := os.ReadFile(s.file)
	if err == nil {
		if bytes.Equal(raw, s.raw) {
			return
		}
		s.raw = raw
		err = s.use(raw)
	}
	if err != nil {
		s.once.Log(slog.LevelError, "secret", "new secret of gateway and MOM not used; the old one stays", "error", err)
		return
	}
	s.log.Info("secret of gateway and MOM renewed", "lines", len(s.hashes))
}

// use replaces the secret with the lines of a file. If there is an error, the old secret stays.
func (s *Secret) use(raw []byte) error {
	var lines []string
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if strings.ContainsFunc(line, func(c rune) bool { return c < '!' || c > '~' }) {
			return errors.New("a line has other characters than visible ASCII; `openssl rand -hex 32` makes a good one")
		}
		if len(line) > maxLine {
			return fmt.Errorf("a line has more than %d characters; `openssl rand -hex 32` makes a good one", maxLine)
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return errors.New("the file is empty; `openssl rand -hex 32` makes a good secret")
	}
	s.first, s.hashes = lines[0], nil
	for _, line := range lines {
		s.hashes = append(s.hashes, sha256.Sum256([]byte(line)))
	}
	return nil
}
