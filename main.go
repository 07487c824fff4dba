// Command holdline is a store-and-forward gateway for Connect and gRPC services.
package main

import "holdline/cmd"

// holdline is the command line: a line per command.
var holdline struct {
	Up          cmd.Up          `cmd:"" help:"Run the whole system on this machine."`
	Service     cmd.Service     `cmd:"" help:"Run one of the shipped services."`
	Gateway     cmd.Gateway     `cmd:"" help:"Run a gateway in front of services."`
	MOM         cmd.MOM         `cmd:"" name:"mom" help:"Run a MOM: what stores and replays calls."`
	Call        cmd.Call        `cmd:"" help:"Call a unary method through a gateway."`
	Task        cmd.Task        `cmd:"" help:"Look at stored calls and steer them."`
	Queue       cmd.Queue       `cmd:"" help:"Look at queues and steer them, for operators."`
	Services    cmd.Services    `cmd:"" help:"List what can be called through a gateway."`
	Healthcheck cmd.Healthcheck `cmd:"" help:"Ask a server for its health, for containers."`
	Version     cmd.Version     `cmd:"" help:"Print the version."`
	Help        cmd.Help        `cmd:"" help:"Show the help of a command."`

	VersionFlag cmd.VersionFlag `name:"version" env:"-" help:"Print the version."`
}

func main() { cmd.Main(&holdline) }
