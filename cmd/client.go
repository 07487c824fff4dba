package cmd

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Remote are the flags of the commands that talk to a gateway.
type Remote struct {
	Server string `default:"http://${gateway_address}" help:"The gateway. An address without a scheme means http://."`
	CACert string `name:"cacert" type:"existingfile" placeholder:"FILE" help:"Trust the certificate authorities in this PEM file, and not those of the system."`
	JSON   bool   `name:"json" help:"Print JSON, for errors too."`

	authorities *x509.CertPool                                                    // nil: those of the system
	named       string                                                            // the flag that names the server, if it is not --server
	dial        func(ctx context.Context, network, addr string) (net.Conn, error) // nil: over TCP
	client      *http.Client                                                      // see http
}

// A server that says nothing is asked for a sign of life after pingAfter, and has pingTimeout for it. A call that is held, or a
// wait, may take any time: the server lives, and says so. A connection has to be made within the same time.
const (
	pingAfter   = 10 * time.Second
	pingTimeout = 5 * time.Second
	dialTimeout = pingAfter + pingTimeout
)

func (r Remote) flag() string { return cmp.Or(r.named, "--server") }

// Help is a part of the help of each of these commands.
func (Remote) Help() string { return exitStatus }

// AfterApply reads what the flags name.
func (r *Remote) AfterApply() (err error) {
	if r.Server, err = serverURL("--server", r.Server); err != nil || r.CACert == "" {
		return err
	}
	pem, err := os.ReadFile(r.CACert)
	if err != nil {
		return fmt.Errorf("--cacert: %w", err)
	}
	r.authorities = x509.NewCertPool()
	if !r.authorities.AppendCertsFromPEM(pem) {
		return fmt.Errorf("--cacert: %s has no certificate in PEM", r.CACert)
	}
	return nil
}

// serverURL reads a flag that says where a server is: a URL, or an address, which means http. An
// address without a host, or with 0.0.0.0 or [::] as --listen takes them, means this machine.
func serverURL(flag, given string) (string, error) {
	full := given
	if !strings.Contains(full, "://") {
		full = "http://" + full
	}
	u, err := url.Parse(full)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", fmt.Errorf("%s: %q is not an address; want one such as http://127.0.0.1:8080 or gateway.example:8080", flag, given)
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "" || ip.IsUnspecified() {
		u.Host = net.JoinHostPort("127.0.0.1", u.Port())
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}

func (r Remote) secure() bool { return strings.HasPrefix(r.Server, "https://") }

// http is the client of this command. There is one, so that all that a command asks goes over one connection.
func (r *Remote) http() *http.Client {
	if r.client == nil {
		r.client = &http.Client{Transport: r.transport()}
	}
	return r.client
}

// transport speaks HTTP/2, with or without TLS: reflection and gRPC need it. It gives up a connection that is silent.
func (r *Remote) transport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(r.secure())
	protocols.SetUnencryptedHTTP2(!r.secure())
	dial := r.dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &http.Transport{
		Protocols: protocols, TLSClientConfig: &tls.Config{RootCAs: r.authorities, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			bounded, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			return dial(bounded, network, addr)
		},
		TLSHandshakeTimeout: dialTimeout,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
}

func (r *Remote) connect(options ...connecthttp.Option) *connect.Client {
	return connect.NewClient(connecthttp.NewTransport(r.http(), r.Server, options...))
}

// printJSON writes a message on one line. protojson adds spaces at random, so they are removed.
func printJSON(out io.Writer, msg proto.Message) error {
	raw, err := protojson.Marshal(msg)
	if err != nil {
		return fmt.Errorf("print %s: %w", msg.ProtoReflect().Descriptor().FullName(), err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return fmt.Errorf("print %s: %w", msg.ProtoReflect().Descriptor().FullName(), err)
	}
	_, err = fmt.Fprintln(out, line.String())
	return err
}
