package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// WritePair writes a certificate for 127.0.0.1 that has this name, and its key.
func WritePair(tb testing.TB, certFile, keyFile, name string) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	write(tb, certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	write(tb, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func write(tb testing.TB, name string, raw []byte) {
	tb.Helper()
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// The certificate changes when its files change. They are looked at once a second at most. If the new pair
// is bad, that is logged once, and the old certificate stays.
func TestKeyPairFollowsItsFiles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		var logged bytes.Buffer
		WritePair(t, certFile, keyFile, "first")
		pair, err := loadKeyPair(certFile, keyFile, slog.New(slog.NewTextHandler(&logged, nil)))
		if err != nil {
			t.Fatal(err)
		}
		expect := func(when, name string) {
			t.Helper()
			cert, err := pair.get(nil)
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if got := cert.Leaf.Subject.CommonName; got != name {
				t.Errorf("%s: got the %s certificate, want the %s", when, got, name)
			}
		}
		// changed gives the files a modification time that they never had before.
		age := time.Hour
		changed := func() {
			t.Helper()
			age += time.Hour
			for _, name := range []string{certFile, keyFile} {
				if err := os.Chtimes(name, time.Time{}, time.Now().Add(age)); err != nil {
					t.Fatal(err)
				}
			}
		}

		WritePair(t, certFile, keyFile, "second")
		changed()
		expect("within a second", "first")
		time.Sleep(keyPairAge) // on the clock of synctest: nobody waits
		expect("a second later", "second")

		good, err := os.ReadFile(keyFile)
		if err != nil {
			t.Fatal(err)
		}
		write(t, keyFile, []byte("not a key"))
		changed()
		for range 3 {
			time.Sleep(keyPairAge)
			expect("with a bad key", "second")
		}
		if err := os.Remove(keyFile); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(keyPairAge)
			expect("without a key", "second")
		}
		if got := strings.Count(logged.String(), "new certificate not used"); got != 2 {
			t.Errorf("logged %d times, want once for each bad pair:\n%s", got, logged.String())
		}

		write(t, keyFile, good)
		time.Sleep(keyPairAge)
		expect("with its key back", "second")
		WritePair(t, certFile, keyFile, "third")
		changed()
		time.Sleep(keyPairAge)
		expect("after all that", "third")
	})
}
