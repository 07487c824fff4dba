package cmd

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
)

// Admin is the flag of gateway and MOM that opens the admin listener.
type Admin struct {
	Admin string `placeholder:"ADDRESS" help:"Serve operators at this address, such as 127.0.0.1:9464 or unix:PATH: queues, the tasks of all callers, /metrics and pprof. Everybody who reaches this address is an operator. Default: nowhere."`
}

// listenAt is the address to listen on. HOLDLINE_ADMIN may have the form that the commands of
// operators use, with http:// before it.
func listenAt(admin string) string {
	return strings.TrimSuffix(strings.TrimPrefix(admin, "http://"), "/")
}

// Operator are the flags of the commands that speak to an admin listener.
type Operator struct {
	Admin string `default:"http://${admin_address}" help:"The admin listener of a gateway or MOM: a URL, an address, or unix:PATH."`
	JSON  bool   `name:"json" help:"Print JSON, for errors too."`
	// Server was the flag of these commands when they spoke to the callers' port. Scripts may still
	// use it, and it names the server, so it is read like --admin.
	Server string `env:"-" hidden:""`

	remote *Remote // see connect
}

// Help is a part of the help of each of these commands.
func (Operator) Help() string { return exitStatus }

// AfterApply reads where the listener is.
func (o *Operator) AfterApply() (err error) {
	o.Admin = cmp.Or(o.Server, o.Admin)
	if !strings.HasPrefix(o.Admin, unixPrefix) {
		o.Admin, err = serverURL("--admin", o.Admin)
	}
	return err
}

const unixPrefix = "unix:"

// connect returns a client that shares the connection of the others of this command.
func (o *Operator) connect() *connect.Client {
	if o.remote == nil {
		o.remote = &Remote{Server: o.Admin}
		if path, unix := strings.CutPrefix(o.Admin, unixPrefix); unix {
			o.remote = &Remote{Server: "http://localhost", dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			}}
		}
	}
	return o.remote.connect()
}

func (o *Operator) queues() momv1connect.QueueServiceClient {
	return momv1connect.NewQueueServiceClient(o.connect())
}

func (o *Operator) tasks() momv1connect.TaskServiceClient {
	return momv1connect.NewTaskServiceClient(o.connect())
}

// fail is Remote.fail with another hint.
func (o Operator) fail(err error) error {
	err = Remote{Server: o.Admin, named: "--admin"}.fail(err)
	var failed *callError
	if errors.As(err, &failed) && notDialled(failed.rpc) {
		failed.hint = "No admin listener is there. `holdline up` has one, a gateway or MOM that was started with --admin too; --admin says where."
	}
	return err
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
