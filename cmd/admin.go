package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
)

// Admin is the flag of gateway and MOM that opens the admin listener.
type Admin struct {
	Admin string `placeholder:"ADDRESS" help:"Serve operators there: queues, everybody's tasks, /metrics and pprof; such as 127.0.0.1:9464, or unix:PATH. Whoever reaches it is an operator, and nobody else is. Default: nowhere."`
}

// listenAt is the address to listen on, which HOLDLINE_ADMIN may give as those who speak to it
// would have it.
func listenAt(admin string) string {
	return strings.TrimSuffix(strings.TrimPrefix(admin, "http://"), "/")
}

// Operator are the flags of the commands that speak to an admin listener.
type Operator struct {
	Admin string `default:"http://127.0.0.1:9464" help:"The admin listener of a gateway or MOM: its URL, its address, or unix:PATH."`
	JSON  bool   `name:"json" help:"Print JSON, errors too."`
	// Server is from when these commands spoke to the callers' port. It says who is meant, so it
	// must not be passed over.
	Server string `env:"-" hidden:""`
}

// reach returns the listener's URL, and a transport that gets there.
func (o Operator) reach() (url string, transport *http.Transport) {
	transport = &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	at := o.Admin
	if o.Server != "" {
		at = o.Server
	}
	if path, ok := strings.CutPrefix(at, "unix:"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		return "http://localhost", transport
	}
	if strings.HasPrefix(at, "https://") {
		transport.Protocols.SetHTTP2(true)
	}
	if strings.Contains(at, "://") {
		return strings.TrimSuffix(at, "/"), transport
	}
	return localURL(at), transport
}

// localURL is how this machine reaches a server that listens on an address.
func localURL(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		listen = net.JoinHostPort("127.0.0.1", port)
	}
	return "http://" + listen
}

func (o Operator) connect() *connect.Client {
	url, transport := o.reach()
	return connect.NewClient(connecthttp.NewTransport(&http.Client{Transport: transport}, url))
}

func (o Operator) queues() momv1connect.QueueServiceClient {
	return momv1connect.NewQueueServiceClient(o.connect())
}

func (o Operator) tasks() momv1connect.TaskServiceClient {
	return momv1connect.NewTaskServiceClient(o.connect())
}

// fail prints an RPC error and returns the exit status that goes with it.
func (o Operator) fail(err error) error {
	var rpcErr *connect.Error
	if errors.As(err, &rpcErr) && !rpcErr.IsRemote() && rpcErr.Code() == connect.CodeUnavailable {
		at, _ := o.reach()
		_, _ = fmt.Fprintf(os.Stderr, "holdline: %s: %v\nNo admin listener is there. `holdline up` has one, a gateway or MOM that was started with --admin too; --admin says where.\n", at, err)
		return rpcExit(rpcErr.Code())
	}
	return Remote{JSON: o.JSON}.fail(err)
}

// show prints one queue.
func (o Operator) show(out io.Writer, queue *momv1.Queue, err error) error {
	switch {
	case err != nil:
		return o.fail(err)
	case o.JSON:
		return printJSON(out, queue)
	}
	return printQueues(out, queue)
}
