package route_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	_ "holdline/gen/arithmetic/v1"
	"holdline/internal/contract"
	"holdline/internal/route"
)

func TestParse(t *testing.T) {
	t.Parallel()
	r, err := route.Parse("a.v1.B=http://one:1,https://two:2;ttl=1m;attempt-timeout=2s;try-timeout=3s;shards=4;refusals=safe")
	if err != nil {
		t.Fatal(err)
	}
	if r.Service != "a.v1.B" || len(r.Endpoints) != 2 || r.Endpoints[1].Host != "two:2" ||
		r.TTL != time.Minute || r.AttemptTimeout != 2*time.Second || r.TryTimeout != 3*time.Second || r.Shards != 4 || !r.SafeRefusals {
		t.Errorf("got %+v", r)
	}
	r, err = route.Parse("B=http://one:1")
	if err != nil || r.TTL != contract.DefaultTTL || r.AttemptTimeout != route.DefaultAttemptTimeout || r.TryTimeout != 0 || r.Shards != 0 || r.SafeRefusals {
		t.Errorf("defaults: got %+v, %v", r, err)
	}
}

// An error says what would be right.
func TestParseErrors(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]string{
		"":                            "want package.Service=http://host:port",
		"http://one:1":                "want package.Service=http://host:port",
		"a.B=one:1":                   "want http://host:port",
		"a.B=http://one:1/path":       "want http://host:port",
		"a.B=http://u:p@one:1":        "want http://host:port",
		"a.B=http://one:1,":           "want http://host:port",
		"a.B=http://one:1;ttl=25h":    "at most 24h",
		"a.B=http://one:1;ttl=0s":     "want a duration",
		"a.B=http://one:1;shards=0":   "from 1 to 64",
		"a.B=http://one:1;retries=3":  "unknown option",
		"a.B=http://one:1;refusals=":  "want final or safe",
		"a.B=http://one:1;shards=one": "from 1 to 64",
	} {
		if _, err := route.Parse(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %v, want an error with %q", spec, err, want)
		}
	}
	if _, err := route.ParseTable([]string{"a.B=http://one:1", "a.B=http://two:2"}); err == nil {
		t.Error("a service given twice: got no error")
	}
}

func TestSpecs(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "routes")
	if err := os.WriteFile(name, []byte("# ours\n\n  a.B=http://one:1  \nc.D=http://two:2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	specs, err := route.Specs(os.ReadFile, name)
	if err != nil || len(specs) != 2 || specs[0] != "a.B=http://one:1" {
		t.Errorf("got %q, %v", specs, err)
	}
}

func TestSplitProcedure(t *testing.T) {
	t.Parallel()
	for path, ok := range map[string]bool{
		"/a.B/C": true, "/a.B/": false, "/a.B": false, "/": false, "": false, "a.B/C": false, "/a.B/C/D": false, "//C": false,
	} {
		service, method, got := route.SplitProcedure(path)
		if got != ok || ok && (service != "a.B" || method != "C") {
			t.Errorf("SplitProcedure(%q) = %q, %q, %v; want %v", path, service, method, got, ok)
		}
	}
}

// image writes a file descriptor set with one service of three methods.
func image(t *testing.T, file, pkg string) string {
	t.Helper()
	idempotent := descriptorpb.MethodOptions_IDEMPOTENT
	method := func(name string, options *descriptorpb.MethodOptions, streams bool) *descriptorpb.MethodDescriptorProto {
		return &descriptorpb.MethodDescriptorProto{
			Name: &name, InputType: proto.String("." + pkg + ".M"), OutputType: proto.String("." + pkg + ".M"),
			Options: options, ServerStreaming: &streams,
		}
	}
	raw, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{{
		Name: &file, Package: &pkg, Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("M")}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("S"), Method: []*descriptorpb.MethodDescriptorProto{
			method("Once", nil, false),
			method("Twice", &descriptorpb.MethodOptions{IdempotencyLevel: &idempotent}, false),
			method("Many", nil, true),
		}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "image.binpb")
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestSchemas(t *testing.T) {
	t.Parallel()
	s, err := route.LoadSchemas(image(t, "x.proto", "x.v1"), image(t, "y.proto", "y.v1"))
	if err != nil {
		t.Fatal(err)
	}
	for procedure, want := range map[string]struct{ unary, repeatable bool }{
		"/x.v1.S/Once":                  {true, false},
		"/y.v1.S/Twice":                 {true, true},
		"/x.v1.S/Many":                  {false, false},
		"/arithmetic.v1.SumService/Sum": {true, true}, // linked
	} {
		m := s.Method(procedure)
		if m == nil || m.Unary != want.unary || m.Repeatable != want.repeatable {
			t.Errorf("Method(%s) = %+v, want %+v", procedure, m, want)
		}
	}
	if m := s.Method("/x.v1.S/None"); m != nil {
		t.Errorf("unknown method: got %+v, want nil", m)
	}
	if _, err := s.FindMessageByName("y.v1.M"); err != nil {
		t.Errorf("message of an image: %v", err)
	}
	if _, err := s.FindMessageByURL("type.googleapis.com/arithmetic.v1.SumRequest"); err != nil {
		t.Errorf("linked message: %v", err)
	}
}

func TestSchemaErrors(t *testing.T) {
	t.Parallel()
	text := filepath.Join(t.TempDir(), "x.proto")
	if err := os.WriteFile(text, []byte(`syntax = "proto3";`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := route.LoadSchemas(text); err == nil || !strings.Contains(err.Error(), "buf build -o") {
		t.Errorf("a .proto instead of an image: got %v, want what to do", err)
	}
	if _, err := route.LoadSchemas(image(t, "x.proto", "x.v1"), image(t, "x.proto", "y.v1")); err == nil {
		t.Error("two images with different files of one name: got no error")
	}
}
