package cmd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"connectrpc.com/connect/v2"
	"github.com/alecthomas/kong"

	"holdline/client"
	"holdline/internal/server"
)

// callError is the error of an RPC. Its code makes the exit status.
type callError struct {
	rpc  *connect.Error
	text string // for people
	hint string // what they may do, on a line of its own; empty for nothing
}

func (e *callError) Error() string { return e.text }
func (e *callError) Unwrap() error { return e.rpc }

// unwrittenError is the error of a command that could not write to standard output what it had of a task.
type unwrittenError struct {
	error
	task string
	read string // the command that gets the answer all the same
}

func (e *unwrittenError) Error() string {
	return fmt.Sprintf("%v; the call is stored as task %s: %s", e.error, e.task, e.read)
}

func (e *unwrittenError) Unwrap() error { return e.error }

// unwritten says of an error of writing which task it was about, if it was about one: the id is nowhere else.
func (r *Remote) unwritten(err error, task string) error {
	if err == nil || task == "" {
		return err
	}
	return &unwrittenError{err, task, r.waitAgain(task)}
}

// usageError is an error of the command line, or of a file that it names, that was found after parsing.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// usage makes err a usageError, unless it is nil.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err}
}

func usagef(format string, args ...any) error { return usage(fmt.Errorf(format, args...)) }

// isUsage tells whether an error is one of the command line. What configures a server comes from there.
func isUsage(err error) bool {
	var (
		wrong  *usageError
		config *server.ConfigError
	)
	return errors.As(err, &wrong) || errors.As(err, &config)
}

// fail turns the error of an RPC into a callError; others stay as they are.
func (r Remote) fail(err error) error {
	var rpcErr *connect.Error
	switch {
	case !errors.As(err, &rpcErr):
		return err
	case rpcErr.IsRemote():
		return &callError{rpc: rpcErr, text: rpcErr.Error()}
	case interrupted(rpcErr):
		return interruption("interrupted")
	}
	rpcErr = unanswered(rpcErr)
	return &callError{rpc: rpcErr, text: fmt.Sprintf("holdline: %s: %v", r.Server, rpcErr), hint: r.hint(rpcErr)}
}

// interrupted tells whether a call ended because somebody ended this command. To connect, a connection or a stream that the
// other side has reset is a cancellation too.
func interrupted(err error) bool {
	var rpcErr *connect.Error
	return errors.As(err, &rpcErr) && rpcErr.Code() == connect.CodeCanceled && !rpcErr.IsRemote() && errors.Is(err, context.Canceled)
}

// unanswered makes unavailable of the error of a call that got no answer, since its connection ended or stayed silent. Connect
// has other codes for that, which the exit status must not show: canceled for a reset, deadline_exceeded for a dial that
// took too long, unknown or internal for an answer that broke off. What has no cause was answered, in HTTP.
func unanswered(err *connect.Error) *connect.Error {
	if err.Unwrap() == nil {
		return err
	}
	switch err.Code() {
	case connect.CodeCanceled, connect.CodeDeadlineExceeded, connect.CodeUnknown, connect.CodeInternal:
		return connect.NewError(connect.CodeUnavailable, err.Message()).WithCause(err)
	}
	return err
}

// interruption is the error of a command that was ended; the message says what
// became of its call.
func interruption(message string) error {
	return &callError{rpc: connect.NewError(connect.CodeCanceled, message), text: "holdline: " + message}
}

// hint says what may be wrong when no gateway has answered.
func (r Remote) hint(err *connect.Error) string {
	var (
		noTLS        tls.RecordHeaderError
		unknownIssue x509.UnknownAuthorityError
		badCert      *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &unknownIssue):
		return "If you trust this server, name the authority of its certificate with --cacert FILE."
	case errors.As(err, &badCert):
		return "" // the error says what is wrong with the certificate
	case errors.As(err, &noTLS), r.secure() && err.Message() == "http: server gave HTTP response to HTTPS client":
		return "This server does not speak TLS: try " + r.flag() + " http://…"
	case notDialled(err):
		return "Is a gateway there? --server names another one, and `holdline up` runs one."
	case err.Unwrap() == nil: // it has answered, in HTTP
		return "Something answers there, but not as a gateway does."
	case silent(err):
		return "Something is there, but it is silent. It may be frozen, or have too much to do."
	case r.secure():
		return "The connection ended without the answer of a gateway."
	}
	return "The connection ended without the answer of a gateway. If what listens there speaks TLS, try " + r.flag() + " https://…"
}

// notDialled tells whether there was no connection at all.
func notDialled(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// silent tells whether there was a connection on which nothing came in time, not even the answer to a ping.
func silent(err error) bool {
	var late net.Error // those of context are among them
	return errors.As(err, &late) && late.Timeout() || strings.HasSuffix(err.Error(), "http2: client connection lost")
}

// printError prints an error of a command, as JSON or for people, and returns the exit status.
func printError(out io.Writer, err error, command *kong.Node, asJSON bool) (status int) {
	switch {
	case err == nil:
		return 0
	case isUsage(err):
		return printUsageError(out, err, command, asJSON)
	}
	var failed *callError
	called := errors.As(err, &failed)
	status = 1
	if called {
		status = int(failed.rpc.Code()) << 3
	}
	switch {
	case asJSON:
		printErrorJSON(out, err)
	case called:
		_, _ = fmt.Fprintln(out, failed.text)
		if failed.hint != "" {
			_, _ = fmt.Fprintln(out, failed.hint)
		}
	default:
		_, _ = fmt.Fprintf(out, "holdline: %v\n", err)
	}
	return status
}

// printUsageError prints what is wrong with a command line, and whose help to read; command is nil if none was named.
func printUsageError(out io.Writer, err error, command *kong.Node, asJSON bool) (status int) {
	if asJSON {
		printErrorJSON(out, connect.NewError(connect.CodeInvalidArgument, err.Error()))
		return 2
	}
	help := "holdline"
	if command != nil {
		help = command.FullPath()
	}
	_, _ = fmt.Fprintf(out, "holdline: %v\nTry: %s --help\n", err, help)
	return 2
}

// printErrorJSON writes an error on one line, in the shape that Connect gives it,
// and the task's id beside it if there is one.
func printErrorJSON(out io.Writer, err error) {
	body := struct {
		Code    string           `json:"code"`
		Message string           `json:"message"`
		Details []map[string]any `json:"details,omitempty"`
		Task    string           `json:"task,omitempty"`
	}{Code: connect.CodeOf(err).String(), Message: err.Error(), Task: client.TaskFrom(err).GetId()}
	var unwritten *unwrittenError
	if errors.As(err, &unwritten) {
		body.Task = unwritten.task
	}
	var rpcErr *connect.Error
	if errors.As(err, &rpcErr) {
		body.Message = rpcErr.Message()
		for _, d := range rpcErr.Details() {
			detail := map[string]any{"type": d.Type, "value": d.Value}
			if len(d.Debug) > 0 {
				detail["debug"] = json.RawMessage(d.Debug)
			}
			body.Details = append(body.Details, detail)
		}
	}
	_ = json.NewEncoder(out).Encode(body)
}

// readError reads an error in the shape that Connect gives it.
func readError(raw []byte) (*connect.Error, error) {
	var body struct {
		Code    connect.Code
		Message string
		Details []struct {
			Type  string
			Value string
			Debug json.RawMessage
		}
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		return nil, err
	}
	err := connect.NewError(body.Code, body.Message).WithRemote()
	for _, d := range body.Details {
		if value, decodeErr := base64.RawStdEncoding.DecodeString(strings.TrimRight(d.Value, "=")); decodeErr == nil {
			err = err.WithDetail(&connect.ErrorDetail{Type: d.Type, Value: value, Debug: d.Debug})
		}
	}
	return err, nil
}
