package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// keyPairAge is the minimum time between two looks at the files. Handshakes in between use the known pair.
const keyPairAge = time.Second

// keyPair is a certificate with its key, read from files. When the files have been replaced, the next
// handshakes use the new pair. It is safe for concurrent use.
type keyPair struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	checked time.Time
	version [2]fileVersion // of the files that were read last, usable or not
	pair    *tls.Certificate
}

// fileVersion tells one state of a file from another.
type fileVersion struct {
	modified time.Time
	size     int64
}

func loadKeyPair(certFile, keyFile string, log *slog.Logger) (*keyPair, error) {
	p := &keyPair{certFile: certFile, keyFile: keyFile, log: log, checked: time.Now()}
	p.version = p.look()
	return p, p.load()
}

// get implements tls.Config.GetCertificate. If a new pair cannot be used, get logs that once and keeps the
// old pair. While one file has been replaced and the other not yet, the two do not match.
func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.checked) >= keyPairAge {
		p.checked = now
		// Look before reading: if the files change in between, the next look sees it.
		if version := p.look(); version != p.version {
			p.version = version
			if err := p.load(); err != nil {
				p.log.Error("new certificate not used; the old one stays", "error", err)
			} else {
				p.log.Info("certificate renewed", "expires", p.pair.Leaf.NotAfter)
			}
		}
	}
	return p.pair, nil
}

// look returns the versions of the two files; zero for a file that is missing.
func (p *keyPair) look() (version [2]fileVersion) {
	for i, name := range [...]string{p.certFile, p.keyFile} {
		if info, err := os.Stat(name); err == nil {
			version[i] = fileVersion{info.ModTime(), info.Size()}
		}
	}
	return version
}

func (p *keyPair) load() error {
	pair, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", p.certFile, p.keyFile, err)
	}
	p.pair = &pair
	return nil
}
