package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"holdline/internal/server"
)

// The service that answers with what it was told, once or in a stream. Its messages are google.protobuf.StringValue.
const (
	echoService     = "bench.v1.EchoService"
	echoProcedure   = "/" + echoService + "/Echo"
	streamProcedure = "/" + echoService + "/Stream"

	// echoCommand makes this program that service: echo LISTEN.
	echoCommand = "echo"
	// headerMessages says how many messages a stream is to have.
	headerMessages = "Bench-Messages"
	// streamedBytes is the length of each.
	streamedBytes = 16
)

// askEcho asks for a message of that many bytes.
func askEcho(size int) *ask {
	text := strings.Repeat("x", size)
	name := fmt.Sprintf("%d B", size)
	if size%1024 == 0 {
		name = fmt.Sprintf("%d KiB", size>>10)
	}
	inGRPC := envelope(0, inProto(text))
	return askUsual(name, echoProcedure, &message{
		connectType: "application/json",
		connect:     exchange{inJSON(text), inJSON(text)},
		grpc:        exchange{inGRPC, inGRPC},
	})
}

// askStream asks for a stream of that many messages.
func askStream(messages int) *ask {
	text := strings.Repeat("x", streamedBytes)
	inConnect, inGRPC := envelope(0, inJSON(text)), envelope(0, inProto(text))
	a := askUsual(fmt.Sprintf("%d messages", messages), streamProcedure, &message{
		connectType: connectStream + "json",
		connect:     exchange{inConnect, append(bytes.Repeat(inConnect, messages), endOfStream...)},
		grpc:        exchange{inGRPC, bytes.Repeat(inGRPC, messages)},
	})
	a.messages = messages
	a.header = append(a.header, [2]string{headerMessages, strconv.Itoa(messages)})
	return a
}

// connectStream begins the Content-Type of streams of Connect, and endOfStream is their last message.
const connectStream = "application/connect+"

var endOfStream = envelope(2, []byte("{}"))

func inJSON(text string) []byte { return []byte(`"` + text + `"`) }

func inProto(text string) []byte {
	raw, _ := proto.Marshal(wrapperspb.String(text)) // it is valid UTF-8
	return raw
}

// serveEcho serves until ctx ends.
func serveEcho(ctx context.Context, listen string) error {
	s, err := server.Listen(server.Config{Addr: listen, Handler: http.HandlerFunc(echo), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// echo reads no message, and so it knows all codecs: Connect, gRPC, and streams of both.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller has left
	}
	kind := r.Header.Get("Content-Type")
	w.Header().Set("Content-Type", kind)
	gRPC := strings.HasPrefix(kind, "application/grpc")
	if r.URL.Path == streamProcedure {
		messages, _ := strconv.Atoi(r.Header.Get(headerMessages))
		for range messages {
			_, _ = w.Write(body)
			_ = http.NewResponseController(w).Flush() // as servers of streams do
		}
		if !gRPC {
			_, _ = w.Write(endOfStream)
		}
	} else {
		if !gRPC {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		_, _ = w.Write(body)
	}
	if gRPC {
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	}
}

// writeEchoSchema writes a Buf image of the service, by which the gateway knows that calls are unary ones.
func writeEchoSchema(file string) error {
	text := proto.String(".google.protobuf.StringValue")
	raw, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(wrapperspb.File_google_protobuf_wrappers_proto),
		{
			Name: proto.String("bench/v1/echo.proto"), Package: proto.String("bench.v1"), Syntax: proto.String("proto3"),
			Dependency: []string{"google/protobuf/wrappers.proto"},
			Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("EchoService"), Method: []*descriptorpb.MethodDescriptorProto{
				{Name: proto.String("Echo"), InputType: text, OutputType: text},
				{Name: proto.String("Stream"), InputType: text, OutputType: text, ServerStreaming: proto.Bool(true)},
			}}},
		},
	}})
	if err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o600)
}
