package cmd

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"holdline/internal/reload"
	"holdline/internal/route"
	"holdline/internal/wire"
)

// Routing are the flags by which gateway and MOM learn routes and schemas.
type Routing struct {
	Route  []string `sep:"none" env:"-" placeholder:"SERVICE=URL[,URL…][;key=value…]" help:"Where a service runs. May be repeated. Options: ttl, attempt-timeout, try-timeout, shards, refusals, health, http, protocol, schema. The variable HOLDLINE_ROUTES takes several routes, separated by white space."`
	Routes string   `type:"existingfile" env:"-" placeholder:"FILE" help:"A file with routes, one on each line. The file is read again when it changes, and on SIGHUP."`
	Schema []string `type:"existingfile" placeholder:"IMAGE" help:"A Buf image with the schemas of routed services. May be repeated. The file is read again when it changes, and on SIGHUP. A service that is in none is asked for its schema by server reflection. Calls of a service without a schema pass, but are never stored."`
	Engine string   `enum:"own,nethttp" default:"own" help:"What speaks HTTP: Holdline's own engine, or nethttp, which is Go's library. Use nethttp if the own one fails."`
}

// engine is what the flag names.
func (r Routing) engine() wire.Engine {
	if r.Engine == "nethttp" {
		return wire.NetHTTP
	}
	return wire.DefaultEngine // which a build may choose
}

// specs reads the routes of all three sources.
func (r Routing) specs(read route.ReadFile) ([]string, error) {
	specs := append(strings.Fields(os.Getenv("HOLDLINE_ROUTES")), r.Route...)
	if r.Routes == "" {
		return specs, nil
	}
	more, err := route.Specs(read, r.Routes)
	return append(specs, more...), err
}

// load reads the routes, of which there must be some, and the schemas. There may be other routes beside those of the
// flags: those of the example services.
func (r Routing) load(read route.ReadFile, others ...string) (route.Table, *route.Schemas, error) {
	specs, err := r.specs(read)
	if err != nil {
		return nil, nil, err
	}
	if len(others) > 0 {
		if err := refuseShipped(specs); err != nil {
			return nil, nil, err
		}
	}
	table, err := route.ParseTable(append(others, specs...))
	if err != nil {
		return nil, nil, err
	}
	if len(table) == 0 {
		return nil, nil, route.ErrNoRoutes
	}
	schemas, err := table.ReadSchemas(read, r.Schema...)
	return table, schemas, err
}

// replacer serves by routes and schemas, which can be replaced meanwhile.
type replacer interface {
	Run(ctx context.Context) error
	Replace(table route.Table, schemas *route.Schemas) error
}

// follower has a server follow the files of its routes and schemas.
type follower struct {
	replacer
	files *reload.Files
	load  func() (route.Table, *route.Schemas, error)
	table route.Table // that the server has
	log   *slog.Logger
}

// Run runs the server until ctx ends.
func (f *follower) Run(ctx context.Context) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer announceEnd(ctx, f.log)()
	if f.files.Any() {
		signals, told := takeHangups(), make(chan struct{}, 1)
		var beside sync.WaitGroup
		defer beside.Wait()
		watching, stop := context.WithCancel(ctx)
		defer stop()
		beside.Go(func() { hearHangups(watching, signals, end, told) })
		beside.Go(func() { f.files.Run(watching, told, f.again) })
	}
	return f.replacer.Run(ctx)
}

// again has the server follow what the files say now.
func (f *follower) again() error {
	table, schemas, err := f.load()
	if err == nil {
		err = f.Replace(table, schemas)
	}
	if err != nil {
		return err
	}
	added, changed, removed := f.table.Changes(table)
	f.log.Info("routes and schemas read again", "added", added, "changed", changed, "removed", removed)
	f.table = table
	return nil
}

// takeHangups takes SIGHUP, which otherwise ends a command. Under nohup it stays ignored.
func takeHangups() <-chan os.Signal {
	if signal.Ignored(syscall.SIGHUP) {
		return nil
	}
	signals := make(chan os.Signal, 1)
	signal.Reset(syscall.SIGHUP) // Main listens to it
	signal.Notify(signals, syscall.SIGHUP)
	return signals
}

// hearHangups takes SIGHUP for the wish that files are read again, until ctx ends. It still ends a command whose
// terminal was closed.
func hearHangups(ctx context.Context, signals <-chan os.Signal, end context.CancelCauseFunc, told chan<- struct{}) {
	for inTerminal := hasTerminal(); ; {
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		if inTerminal && !hasTerminal() {
			end(errors.New("hangup: the terminal was closed"))
			return
		}
		select {
		case told <- struct{}{}:
		default: // told already
		}
	}
}

// hasTerminal tells whether the process belongs to a terminal.
func hasTerminal() bool {
	terminal, err := os.Open("/dev/tty")
	if err == nil {
		_ = terminal.Close() // nothing was written
	}
	return !errors.Is(err, syscall.ENXIO) && !errors.Is(err, syscall.EIO) // other errors say nothing of it
}
