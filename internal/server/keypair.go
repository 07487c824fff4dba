package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// keyPairAge is how old what is known of the files may be: handshakes more
// often than that look at no file.
const keyPairAge = time.Second

// keyPair is a certificate that follows its files: whoever renews it replaces
// them, and the next handshakes use the new one. It is safe for concurrent use.
type keyPair struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	checked time.Time
	version [2]fileVersion // of what was last read, good or bad
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

// get implements tls.Config.GetCertificate. A new pair that cannot be used is
// logged, once, and the old one stays: files that are replaced one after the
// other do not fit for a moment.
func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.checked) >= keyPairAge {
		p.checked = now
		// Looked at before it is read: what changes in between is read again.
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

// look returns zeros for files that are not there.
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
