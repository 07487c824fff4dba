// Package load is what tests and swarm/load call a Holdline with: the ways to talk to it, and what
// a reply is.
package load

import (
	"net/http"
	"slices"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
)

// Wire is one way to talk to a server: a protocol, a codec and a version of HTTP. The zero Wire is
// Connect with binary messages over HTTP/1.1.
type Wire struct {
	Name    string
	HTTP2   bool // without TLS
	Options []connecthttp.Option
}

// Wires returns every combination of protocol, codec and version of HTTP that there is: gRPC has no
// HTTP/1.1.
func Wires() (list []Wire) {
	for _, protocol := range []struct {
		name    string
		options []connecthttp.Option
	}{
		{"connect", nil},
		{"connect-get", []connecthttp.Option{connecthttp.WithHTTPGet()}},
		{"grpc", []connecthttp.Option{connecthttp.WithGRPC()}},
		{"grpcweb", []connecthttp.Option{connecthttp.WithGRPCWeb()}},
	} {
		for _, codec := range []string{"proto", "json"} {
			name, options := protocol.name+"/"+codec, protocol.options
			if codec == "json" {
				options = append(slices.Clone(options), connecthttp.WithProtoJSON())
			}
			if protocol.name != "grpc" {
				list = append(list, Wire{name + "/h1", false, options})
			}
			list = append(list, Wire{name + "/h2c", true, options})
		}
	}
	return list
}

// Named returns the wire of that name, such as "grpc/proto/h2c". It panics when there is none.
func Named(name string) Wire {
	all := Wires()
	return all[slices.IndexFunc(all, func(w Wire) bool { return w.Name == name })]
}

// Transport returns one that speaks the wire's version of HTTP alone. It has connections of its own.
func (w Wire) Transport() *http.Transport {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(!w.HTTP2)
	transport.Protocols.SetUnencryptedHTTP2(w.HTTP2)
	return transport
}

// Client returns a client of the server at a host:port.
func (w Wire) Client(transport http.RoundTripper, addr string) *connect.Client {
	return connect.NewClient(connecthttp.NewTransport(&http.Client{Transport: transport}, "http://"+addr, w.Options...))
}
