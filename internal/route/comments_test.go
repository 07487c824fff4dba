package route_test

import (
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"holdline/internal/route"
)

// commented is a file as a Buf image has it. The path of a location names the element that has the comment.
const commented = `
name: "c.proto" package: "c.v1" syntax: "proto3"
message_type { name: "Above" field { name: "beside" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING } }
message_type { name: "Silent" }
source_code_info {
  location { path: [] span: [0, 0, 9] }
  location { path: [4, 0, 1] span: [1, 0, 2] leading_detached_comments: "apart" }
  location { path: [4, 0] span: [1, 0, 2] leading_comments: " One line\n goes on.\n\n A list:\n - of one\n - of two\n\n The end.\n" }
  location { path: [4, 0, 2, 0] span: [2, 0, 2] trailing_comments: " Beside it.\n" }
}`

func TestComment(t *testing.T) {
	t.Parallel()
	var file descriptorpb.FileDescriptorProto
	if err := prototext.Unmarshal([]byte(commented), &file); err != nil {
		t.Fatal(err)
	}
	raw, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{&file}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "image.binpb")
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := route.LoadSchemas(name)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := s.FindFileByPath("c.proto")
	if err != nil {
		t.Fatal(err)
	}
	if got := kept.SourceLocations().Len(); got != 2 {
		t.Errorf("%d places are kept, want the two that have comments", got)
	}
	for element, want := range map[protoreflect.FullName]string{
		"c.v1.Above":                    "One line goes on.\n\nA list:\n- of one\n- of two\n\nThe end.",
		"c.v1.Above.beside":             "Beside it.",
		"c.v1.Silent":                   "",
		"arithmetic.v1.SumService":      "SumService adds two numbers.", // linked, and so without comments of its own
		"arithmetic.v1.SumResponse":     "SumResponse holds the result.",
		"google.protobuf.MethodOptions": "",
	} {
		d, err := s.FindDescriptorByName(element)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Comment(d); got != want {
			t.Errorf("Comment(%s) = %q, want %q", element, got, want)
		}
	}
}
