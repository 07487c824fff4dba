// Command holdline is a store-and-forward gateway for Connect and gRPC services.
package main

import "holdline/cmd"

// holdline is the command line: a line per command.
var holdline struct {
	Up          cmd.Up          `cmd:"" help:"Run the whole system on this machine: a gateway, a MOM with its Redis, and three example services."`
	Service     cmd.Service     `cmd:"" help:"Run one of the three example services."`
	Gateway     cmd.Gateway     `cmd:"" help:"Run a gateway, which callers call instead of the services behind it."`
	MOM         cmd.MOM         `cmd:"" name:"mom" help:"Run a MOM (message-oriented middleware), which stores calls and replays them."`
	Call        cmd.Call        `cmd:"" help:"Call a unary method through a gateway."`
	Task        cmd.Task        `cmd:"" help:"Look at stored calls, which are called tasks, and steer them."`
	Queue       cmd.Queue       `cmd:"" help:"Look at the queues of stored calls and steer them. For operators."`
	Services    cmd.Services    `cmd:"" help:"List the services behind a gateway, with their states and methods."`
	Healthcheck cmd.Healthcheck `cmd:"" help:"Ask a server whether it is healthy. Made for the health checks of containers."`
	Version     cmd.Version     `cmd:"" help:"Print the version."`
	Help        cmd.Help        `cmd:"" help:"Show the help of a command."`

	VersionFlag cmd.VersionFlag `name:"version" env:"-" help:"Print the version."`
}

func main() { cmd.Main(&holdline) }
