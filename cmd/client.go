package cmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Remote are the flags of the commands that talk to a gateway.
type Remote struct {
	Server string `default:"http://127.0.0.1:8080" help:"The gateway's URL."`
	JSON   bool   `name:"json" help:"Print JSON, errors too."`
}

// connect returns a client that speaks HTTP/2, with or without TLS: reflection
// and gRPC need it.
func (r Remote) connect(options ...connecthttp.Option) *connect.Client {
	protocols := new(http.Protocols)
	if strings.HasPrefix(r.Server, "https://") {
		protocols.SetHTTP2(true)
	} else {
		protocols.SetUnencryptedHTTP2(true)
	}
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	return connect.NewClient(connecthttp.NewTransport(client, strings.TrimSuffix(r.Server, "/"), options...))
}

// fail prints an RPC error and returns the exit status that goes with it.
func (r Remote) fail(err error) error {
	var rpcErr *connect.Error
	if !errors.As(err, &rpcErr) {
		return err
	}
	if !rpcErr.IsRemote() {
		_, _ = fmt.Fprintf(os.Stderr, "holdline: %s: %v\nIs a gateway there? --server gives another URL; `holdline up` runs one.\n", r.Server, err)
		return rpcExit(rpcErr.Code())
	}
	if !r.JSON {
		_, _ = fmt.Fprintln(os.Stderr, rpcErr.Error())
		return rpcExit(rpcErr.Code())
	}
	body := map[string]any{"code": rpcErr.Code().String(), "message": rpcErr.Message()}
	var details []map[string]any
	for _, d := range rpcErr.Details() {
		detail := map[string]any{"type": d.Type, "value": d.Value}
		if len(d.Debug) > 0 {
			detail["debug"] = json.RawMessage(d.Debug)
		}
		details = append(details, detail)
	}
	if details != nil {
		body["details"] = details
	}
	_ = json.NewEncoder(os.Stderr).Encode(body)
	return rpcExit(rpcErr.Code())
}

// printJSON writes a message on one line; protojson alone varies its spaces.
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
