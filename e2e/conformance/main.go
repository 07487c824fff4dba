// Command conformance is the server under test of the Connect conformance suite:
// a gateway, with the suite's reference server behind it. It speaks the suite's
// protocol on stdin and stdout; the test in this folder says how it is run.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"holdline/gateway"
	"holdline/internal/route"
	"holdline/internal/server"
	"holdline/internal/stack"
	"holdline/internal/wire"
)

const (
	suite = "connectrpc.conformance.v1."
	// killAfter is how long the reference server has to end.
	killAfter = 5 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	reference := flag.String("reference", "", "the suite's reference server, a program")
	image := flag.String("image", "", "the suite's schemas, a Buf image")
	known := flag.Bool("known", false, "give the gateway the schemas too")
	bridged := flag.Bool("bridged", false, "the reference server only speaks gRPC")
	engine := flag.String("engine", "own", "what speaks HTTP: own or nethttp")
	flag.Parse()
	speaks := wire.Own
	if *engine == "nethttp" {
		speaks = wire.NetHTTP
	}
	err := run(ctx, *reference, *image, *known, *bridged, speaks)
	stop()
	if err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "conformance: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, reference, image string, known, bridged bool, engine wire.Engine) error {
	suiteSchemas, err := route.LoadSchemas(image)
	if err != nil {
		return err
	}
	request, err := message(suiteSchemas, "ServerCompatRequest")
	if err != nil {
		return err
	}
	answer, err := message(suiteSchemas, "ServerCompatResponse")
	if err != nil {
		return err
	}
	if err := receive(os.Stdin, request); err != nil {
		return fmt.Errorf("request of the suite: %w", err)
	}

	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	cfg := server.Config{Addr: "127.0.0.1:0", Logger: log}
	var pem []byte
	if get(request, "use_tls").Bool() {
		dir, err := os.MkdirTemp("", "holdline-conformance-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		creds := get(request, "server_creds").Message()
		pem = get(creds, "cert").Bytes()
		cfg.CertFile, cfg.KeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		if err := errors.Join(
			os.WriteFile(cfg.CertFile, pem, 0o600),
			os.WriteFile(cfg.KeyFile, get(creds, "key").Bytes(), 0o600),
		); err != nil {
			return err
		}
	}
	// TLS ends at the gateway.
	set(request, "use_tls", false)
	request.Clear(request.Descriptor().Fields().ByName("server_creds"))
	if bridged {
		choose(request, "protocol", "PROTOCOL_GRPC")
		choose(request, "http_version", "HTTP_VERSION_2")
	}
	end, err := start(ctx, reference, request, answer)
	if err != nil {
		return fmt.Errorf("reference server: %w", err)
	}
	defer end()

	schemas := suiteSchemas
	if !known {
		if schemas, err = route.LoadSchemas(); err != nil {
			return err
		}
	}
	behind := fmt.Sprintf("=http://%s:%d", get(answer, "host").String(), get(answer, "port").Uint())
	// The suite also calls a service that nobody has, to see how the server under
	// test says so; a route makes this the reference server's to say.
	routes, err := route.ParseTable([]string{suite + "ConformanceService" + behind, suite + "UnknownService" + behind})
	if err != nil {
		return err
	}
	s, err := stack.NewGateway(gateway.Config{Routes: routes, Schemas: schemas, Engine: engine, Logger: log}, cfg)
	if err != nil {
		return err
	}
	address, err := netip.ParseAddrPort(s.Addr())
	if err != nil {
		return err
	}
	set(answer, "host", address.Addr().String())
	set(answer, "port", uint32(address.Port()))
	set(answer, "pem_cert", pem)
	if err := send(os.Stdout, answer); err != nil {
		return fmt.Errorf("answer to the suite: %w", err)
	}
	return s.Run(ctx)
}

// start starts the reference server, which reads the request and answers. end
// waits for its end.
func start(ctx context.Context, program string, request, answer proto.Message) (end func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var in bytes.Buffer
	if err := send(&in, request); err != nil {
		cancel()
		return nil, err
	}
	child := exec.CommandContext(ctx, program, "-bind", "127.0.0.1", "-port", "0")
	child.Stdin, child.Stderr = &in, os.Stderr
	child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
	child.WaitDelay = killAfter
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	end = func() {
		cancel()
		_ = child.Wait() // it is told to end, and says so
	}
	if err := receive(out, answer); err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// maxMessage is more than the suite's own messages have.
const maxMessage = 1 << 20

// receive reads a message with its length before it, as 32 bits.
func receive(r io.Reader, m proto.Message) error {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxMessage {
		return fmt.Errorf("message of %d bytes", n)
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return err
	}
	return proto.Unmarshal(raw, m)
}

func send(w io.Writer, m proto.Message) error {
	raw, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...))
	return err
}

// message returns an empty message of the suite's.
func message(schemas *route.Schemas, name protoreflect.FullName) (*dynamicpb.Message, error) {
	t, err := schemas.FindMessageByName(suite + name)
	if err != nil {
		return nil, fmt.Errorf("schemas of the suite: %w", err)
	}
	return dynamicpb.NewMessage(t.Descriptor()), nil
}

// get reads a field by its name in the schema; one that is not there panics.
func get(m protoreflect.Message, name protoreflect.Name) protoreflect.Value {
	return m.Get(m.Descriptor().Fields().ByName(name))
}

func set(m protoreflect.Message, name protoreflect.Name, v any) {
	m.Set(m.Descriptor().Fields().ByName(name), protoreflect.ValueOf(v))
}

// choose sets a field to a value of its enum.
func choose(m protoreflect.Message, name, value protoreflect.Name) {
	field := m.Descriptor().Fields().ByName(name)
	m.Set(field, protoreflect.ValueOfEnum(field.Enum().Values().ByName(value).Number()))
}
