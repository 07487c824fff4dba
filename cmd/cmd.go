// Package cmd is the command line: a file per command, flags and then one call
// into a room. Nothing else in Holdline reads flags or the environment.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"holdline/internal/cores"
	"holdline/internal/heap"
	"holdline/internal/logbuffer"
	"holdline/internal/secret"
	"holdline/internal/server"
)

// exitStatus explains the exit status in the help texts.
const exitStatus = "Exit status: 0 when all went well. When a call failed, the RPC code times 8: 32 when the call is stored and not finished yet, " +
	"40 when there is no such task, 112 when no server answers. 2 when the command line is wrong, or a file or a variable that belongs to it. 1 for every other error."

// Main parses the command line, runs the command and exits, as exitStatus says.
// SIGINT, SIGTERM and SIGHUP end the command's context.
func Main(grammar any) {
	ctx, stop := signal.NotifyContext(context.Background(), endings()...)
	command, err := Parser(grammar).Parse(joinNegatives(os.Args[1:]))
	var unwritten *fs.PathError
	if errors.As(err, &unwritten) && unwritten.Op == "write" { // by --help or --version
		os.Exit(printError(os.Stderr, unwritten, nil, false))
	}
	if err != nil {
		os.Exit(printUsageError(os.Stderr, err, helpOf(err), slices.Contains(os.Args, "--json")))
	}
	command.BindTo(ctx, (*context.Context)(nil))
	err = command.Run()
	stop()
	var out io.Writer = os.Stderr
	if !logged.Flush(time.Second) {
		out = io.Discard // nobody reads it
	}
	os.Exit(printError(out, err, command.Selected(), printsJSON(command)))
}

// helpOf is the command whose help tells what is wrong with a command line that cannot be parsed.
func helpOf(err error) *kong.Node {
	var failed *kong.ParseError
	if !errors.As(err, &failed) || failed.Context == nil {
		return nil
	}
	return failed.Context.Selected()
}

// Parser reads command lines of the grammar, a struct with a field per command.
func Parser(grammar any) *kong.Kong {
	return kong.Must(grammar,
		kong.Name("holdline"),
		kong.Description("A store-and-forward gateway for Connect and gRPC services.\n\n"+exitStatus),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.DefaultEnvars("HOLDLINE"),
		values(),
		kong.WithAfterApply(refuseNegatives),
		kong.BindTo(os.Stdout, (*io.Writer)(nil)),
	)
}

// endings are the signals that end a command in an orderly way. A terminal that is closed sends
// SIGHUP; under nohup it stays ignored. What reads files again has another use for SIGHUP: see takeHangups.
func endings() []os.Signal {
	list := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		list = append(list, syscall.SIGHUP)
	}
	return list
}

// printsJSON tells whether the command was given --json.
func printsJSON(command *kong.Context) bool {
	for _, flag := range command.Flags() {
		if flag.Name == "json" {
			asked, _ := command.FlagValue(flag).(bool)
			return asked
		}
	}
	return false
}

// refuseNegatives refuses flags with a number or a duration below 0, whether they come from the command line or from the
// environment. There is no flag for which that would mean something. TestNegativeFlags tries all of them.
func refuseNegatives(command *kong.Context) error {
	for _, flag := range command.Flags() {
		if negative(command.FlagValue(flag)) {
			return fmt.Errorf("--%s: %v is negative, and must not be", flag.Name, reflect.Indirect(flag.Target))
		}
	}
	return nil
}

// joinNegatives writes `--limit -1` as `--limit=-1`. Kong takes -1 for a flag else, and has other words for the error. There is no
// flag that begins with - and a digit.
func joinNegatives(args []string) (joined []string) {
	for i, arg := range args {
		switch before := len(joined) - 1; {
		case arg == "--":
			return append(joined, args[i:]...)
		case before >= 0 && negativeNumber.MatchString(arg) && strings.HasPrefix(joined[before], "--") && !strings.Contains(joined[before], "="):
			joined[before] += "=" + arg
		default:
			joined = append(joined, arg)
		}
	}
	return joined
}

var negativeNumber = regexp.MustCompile(`^-\.?[0-9]`)

func negative(value any) bool {
	switch value := value.(type) {
	case int:
		return value < 0
	case int64:
		return value < 0
	case float64:
		return value < 0
	case time.Duration:
		return value < 0
	case *time.Duration:
		return value != nil && *value < 0
	}
	return false // a slog.Level too, of which debug is below 0
}

// stateDir is the folder for state that the XDG base directory specification names.
func stateDir() string {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "holdline")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "holdline")
	}
	return ".holdline"
}

// heapSize is what the heap of a server grows to before garbage is collected, in bytes.
const heapSize = 32 << 20

// economize says how much of the machine a server takes, unless GOGC and GOMAXPROCS do: one core while that is enough, and heapSize.
func economize(ctx context.Context) {
	if os.Getenv("GOGC") == "" {
		heap.GrowTo(heapSize)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		go cores.Save(ctx)
	}
}

// Logs are the flags of the commands that serve.
type Logs struct {
	LogLevel  slog.Level `default:"info" help:"How much to log: debug, info, warn or error."`
	LogFormat string     `default:"text" enum:"text,json" help:"How log lines are written: text or json."`
}

// logged is what servers log. They wait for nobody who reads it, and go on when he has left.
var logged = logbuffer.New(os.Stderr, func(lines int) {
	slog.Warn("log lines lost: nobody has read them", "lines", lines)
})

// logger returns the log of a server. What libraries log by themselves is logged there, too, for whoever debugs.
func (l Logs) logger() *slog.Logger {
	signal.Ignore(syscall.SIGPIPE)
	log := slog.New(l.handler(logged))
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(log)
	return log
}

func (l Logs) handler(w io.Writer) slog.Handler {
	options := &slog.HandlerOptions{Level: l.LogLevel, ReplaceAttr: withUnits}
	if l.LogFormat == "json" {
		return slog.NewJSONHandler(w, options)
	}
	return slog.NewTextHandler(w, options)
}

// withUnits writes durations as 1.5s: in JSON they would be numbers of nanoseconds.
func withUnits(_ []string, attr slog.Attr) slog.Attr {
	if attr.Value.Kind() == slog.KindDuration {
		attr.Value = slog.StringValue(attr.Value.Duration().String())
	}
	return attr
}

// announceEnd logs the signal that ends a command, when it comes. The command calls said
// before it exits, so that the line is written.
func announceEnd(ctx context.Context, log *slog.Logger) (said func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		log.Info("told to end: calls under way may end, no others come", "cause", context.Cause(ctx))
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// Limits are the flags of gateway and MOM that limit what callers may use.
type Limits struct {
	MaxConnections int           `default:"${max_connections}" help:"Maximum number of open connections. A call on a connection beyond that is answered with unavailable."`
	MaxStreams     int           `default:"${max_streams}" help:"Maximum number of HTTP/2 streams on one connection."`
	MaxHeaderBytes int           `default:"${max_header_bytes}" help:"Maximum size of the headers of one request, in bytes."`
	HeaderTimeout  time.Duration `default:"${header_timeout}" help:"How long a caller may take to send the headers of one request."`
	IdleTimeout    time.Duration `default:"${idle_timeout}" help:"How long a connection without a call stays open."`
}

// Help is a part of the help of gateway and MOM.
func (Limits) Help() string { return "A limit or a duration of 0 means its default." }

func (l Limits) limits() server.Limits {
	return server.Limits{
		Connections: l.MaxConnections, Streams: l.MaxStreams, HeaderBytes: l.MaxHeaderBytes,
		HeaderTimeout: l.HeaderTimeout, IdleTimeout: l.IdleTimeout,
	}
}

// Metrics is the flag of the commands that have metrics.
type Metrics struct {
	Metrics string `placeholder:"ADDRESS" help:"Also serve /metrics at this address, such as :9465, so that a Prometheus on another machine can read it. Keep callers away from this address. Default: nowhere."`
}

// Shared is the flag for the secret by which a MOM knows its gateways.
type Shared struct {
	MOMSecretFile string `name:"mom-secret-file" type:"existingfile" placeholder:"FILE" help:"A file with the secret that gateways show to MOMs: a line of visible ASCII characters, such as openssl rand -hex 32 prints. A MOM that has this file refuses everybody who does not show the secret. The file is read again when it changes. Of several lines a gateway shows the first, and a MOM accepts each."`
}

// secret opens the file; nil without one.
func (s Shared) secret(log *slog.Logger) (*secret.Secret, error) {
	if s.MOMSecretFile == "" {
		return nil, nil
	}
	return secret.Open(s.MOMSecretFile, log)
}
