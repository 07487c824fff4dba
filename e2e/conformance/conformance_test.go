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
)

// All cases of the suite pass through the gateway as they pass without it:
// whether it knows their schemas, and then reads unary calls before it sends
// them and looks at their answers, or not, and everything streams.
func TestSuitePasses(t *testing.T) {
	goCommand(t, "mod", "download", "connectrpc.com/conformance") // else it has no folder yet
	module := goCommand(t, "list", "-m", "-f", "{{.Dir}}", "connectrpc.com/conformance")
	image := filepath.Join(t.TempDir(), "suite.binpb")
	compile(t, filepath.Join(module, "proto"), image)
	server := filepath.Join(t.TempDir(), "server")
	goCommand(t, "build", "-o", server, ".")
	runner, reference := goCommand(t, "tool", "-n", "connectconformance"), goCommand(t, "tool", "-n", "referenceserver")

	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprintf("known=%t", known), func(t *testing.T) {
			said, err := exec.CommandContext(t.Context(), runner, "--mode", "server", "--conf", "features.yaml", "--",
				server, "-reference", reference, "-image", image, fmt.Sprintf("-known=%t", known)).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			summary := totals.FindString(string(said))
			t.Log(summary)
			// With features taken away, it would pass with fewer cases.
			if want := "Total cases: 3800\n3800 passed, 0 failed"; summary != want {
				t.Errorf("got %q, want %q", summary, want)
			}
		})
	}
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
