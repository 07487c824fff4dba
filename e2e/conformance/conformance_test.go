package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"holdline/internal/wire"
)

// engines are what may speak HTTP, as --engine names them.
var engines = map[string]wire.Engine{"own": wire.Own, "nethttp": wire.NetHTTP}

// All cases of the suite pass through the gateway as they pass without it, with each engine:
// whether it knows their schemas, and then reads unary calls before it sends
// them and looks at their answers, or not, and everything streams.
func TestSuitePasses(t *testing.T) {
	programs := newPrograms(t)
	for engine := range engines {
		for _, known := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/known=%t", engine, known), func(t *testing.T) {
				// With features taken away, it would pass with fewer cases.
				programs.run(t, "Total cases: 3800\n3800 passed, 0 failed", nil, "-engine", engine, "-reference", tool(t, "referenceserver"), fmt.Sprintf("-known=%t", known))
			})
		}
	}
}

// The same cases pass if the reference server speaks gRPC alone, and the gateway translates, but for those that
// bridge-failing.txt names.
func TestSuitePassesAcrossTheBridge(t *testing.T) {
	newPrograms(t).run(t, "Total cases: 3800\n3776 passed, 0 failed", []string{"--known-failing", "@bridge-failing.txt"}, "-reference", tool(t, "grpcserver"), "-known", "-bridged")
}

// programs are what the suite needs to run.
type programs struct{ server, image string }

func newPrograms(tb testing.TB) programs {
	tb.Helper()
	goCommand(tb, "mod", "download", "connectrpc.com/conformance") // else it has no folder yet
	module := goCommand(tb, "list", "-m", "-f", "{{.Dir}}", "connectrpc.com/conformance")
	s := programs{server: filepath.Join(tb.TempDir(), "server"), image: filepath.Join(tb.TempDir(), "suite.binpb")}
	compile(tb, filepath.Join(module, "proto"), s.image)
	goCommand(tb, "build", "-o", s.server, ".")
	return s
}

// run runs the server with arguments, and wants a summary.
func (s programs) run(t *testing.T, want string, options []string, args ...string) {
	t.Helper()
	line := append([]string{"--mode", "server", "--conf", "features.yaml"}, options...)
	line = append(append(line, "--", s.server, "-image", s.image), args...)
	said, err := exec.CommandContext(t.Context(), tool(t, "connectconformance"), line...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	summary := totals.FindString(string(said))
	t.Log(summary)
	if summary != want {
		t.Errorf("got %q, want %q", summary, want)
	}
}

// tool is the program of one of the module's tools.
func tool(tb testing.TB, name string) string {
	tb.Helper()
	return goCommand(tb, "tool", "-n", name)
}

var totals = regexp.MustCompile(`Total cases: \d+\n.*`)

// goCommand runs the go command, which says one line.
func goCommand(tb testing.TB, args ...string) string {
	tb.Helper()
	command := exec.CommandContext(tb.Context(), "go", args...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", command, err, &stderr)
	}
	return string(bytes.TrimSpace(out))
}

// compile makes an image of the suite's schemas.
func compile(tb testing.TB, dir, image string) {
	tb.Helper()
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{dir}})}
	const folder = "connectrpc/conformance/v1/"
	files, err := compiler.Compile(tb.Context(), folder+"service.proto", folder+"server_compat.proto")
	if err != nil {
		tb.Fatal(err)
	}
	as := make([]protoreflect.FileDescriptor, len(files))
	for i, file := range files {
		as[i] = file
	}
	writeImage(tb, image, as...)
}

// writeImage makes an image of files, and of those that they import.
func writeImage(tb testing.TB, image string, files ...protoreflect.FileDescriptor) {
	tb.Helper()
	var (
		set  descriptorpb.FileDescriptorSet
		seen = map[string]bool{}
		add  func(protoreflect.FileDescriptor)
	)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
	}
	for _, file := range files {
		add(file)
	}
	raw, err := proto.Marshal(&set)
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(image, raw, 0o600); err != nil {
		tb.Fatal(err)
	}
}
