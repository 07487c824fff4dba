package openapi_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"holdline/internal/openapi"
	"holdline/internal/route"
)

// richSchema has a field of every kind that ProtoJSON writes in a way of its own.
const richSchema = `
name: "rich/v1/rich.proto" package: "rich.v1" syntax: "proto2"
dependency: ["google/protobuf/any.proto", "google/protobuf/duration.proto", "google/protobuf/field_mask.proto",
	"google/protobuf/struct.proto", "google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"]
enum_type { name: "Kind" value { name: "KIND_NONE" number: 0 } value { name: "KIND_SOME" number: 1 } }
message_type { name: "Rich"
  field { name: "must_have" number: 1 label: LABEL_REQUIRED type: TYPE_STRING }
  field { name: "small" number: 2 label: LABEL_OPTIONAL type: TYPE_SINT32 }
  field { name: "natural" number: 3 label: LABEL_OPTIONAL type: TYPE_FIXED32 }
  field { name: "large" number: 4 label: LABEL_OPTIONAL type: TYPE_UINT64 }
  field { name: "real" number: 5 label: LABEL_OPTIONAL type: TYPE_FLOAT }
  field { name: "infinite" number: 6 label: LABEL_OPTIONAL type: TYPE_DOUBLE }
  field { name: "flag" number: 7 label: LABEL_OPTIONAL type: TYPE_BOOL options { deprecated: true } }
  field { name: "raw" number: 8 label: LABEL_OPTIONAL type: TYPE_BYTES }
  field { name: "kind" number: 9 label: LABEL_OPTIONAL type: TYPE_ENUM type_name: ".rich.v1.Kind" }
  field { name: "counts" number: 10 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".rich.v1.Rich.CountsEntry" }
  field { name: "selves" number: 11 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".rich.v1.Rich" }
  field { name: "self" number: 12 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".rich.v1.Rich" }
  field { name: "one" number: 13 label: LABEL_OPTIONAL type: TYPE_STRING oneof_index: 0 }
  field { name: "other" number: 14 label: LABEL_OPTIONAL type: TYPE_INT64 oneof_index: 0 }
  field { name: "any" number: 20 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Any" }
  field { name: "long" number: 21 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Duration" }
  field { name: "when" number: 22 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" }
  field { name: "mask" number: 23 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.FieldMask" }
  field { name: "tree" number: 24 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Struct" }
  field { name: "leaf" number: 25 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Value" }
  field { name: "leaves" number: 26 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.ListValue" }
  field { name: "nothing" number: 27 label: LABEL_OPTIONAL type: TYPE_ENUM type_name: ".google.protobuf.NullValue" }
  field { name: "maybe" number: 28 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" }
  field { name: "perhaps" number: 29 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.BytesValue" }
  nested_type { name: "CountsEntry" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_INT32 }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_DOUBLE } }
  oneof_decl { name: "choice" } }
service { name: "RichService"
  method { name: "Look" input_type: ".rich.v1.Rich" output_type: ".rich.v1.Rich" options { idempotency_level: NO_SIDE_EFFECTS } }
  method { name: "Set" input_type: ".rich.v1.Rich" output_type: ".rich.v1.Rich" options { idempotency_level: IDEMPOTENT deprecated: true } }
  method { name: "Add" input_type: ".rich.v1.Rich" output_type: ".rich.v1.Rich" }
  method { name: "Watch" input_type: ".rich.v1.Rich" output_type: ".rich.v1.Rich" server_streaming: true } }
`

const richMessage = `
must_have: "x" small: -1 natural: 4294967295 large: 18446744073709551615 real: 1.5 infinite: inf flag: true raw: "\xff" kind: KIND_SOME
counts { key: 1 value: nan } selves { must_have: "y" } self { must_have: "z" } other: 9007199254740993
any { [type.googleapis.com/google.protobuf.Duration] { seconds: 1 } } long { seconds: 1 nanos: 500000000 } when { seconds: 1 } mask { paths: "must_have" }
tree { fields { key: "a" value { bool_value: true } } } leaf { number_value: 1 } leaves { values { string_value: "b" } } nothing: NULL_VALUE
maybe { value: 2 } perhaps { value: "\xff" }
`

func richSchemas(t *testing.T) *route.Schemas {
	t.Helper()
	var rich descriptorpb.FileDescriptorProto
	if err := prototext.Unmarshal([]byte(richSchema), &rich); err != nil {
		t.Fatal(err)
	}
	set := &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{&rich}}
	for _, file := range []protoreflect.FileDescriptor{
		anypb.File_google_protobuf_any_proto, durationpb.File_google_protobuf_duration_proto,
		fieldmaskpb.File_google_protobuf_field_mask_proto, structpb.File_google_protobuf_struct_proto,
		timestamppb.File_google_protobuf_timestamp_proto, wrapperspb.File_google_protobuf_wrappers_proto,
	} {
		set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
	}
	raw, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "image.binpb")
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	schemas, err := route.LoadSchemas(name)
	if err != nil {
		t.Fatal(err)
	}
	return schemas
}

// document returns the valid document of a configuration.
func document(t *testing.T, cfg openapi.Config) *openapi3.T {
	t.Helper()
	var written bytes.Buffer
	if err := openapi.Write(&written, cfg); err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(written.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context(), openapi3.EnableExamplesValidation()); err != nil {
		t.Fatalf("not valid: %v", err)
	}
	return doc
}

// What ProtoJSON writes is what the document says, and it can read the examples.
func TestSchemaIsProtoJSON(t *testing.T) {
	t.Parallel()
	schemas := richSchemas(t)
	doc := document(t, openapi.Config{Services: []openapi.Service{{Name: "rich.v1.RichService"}}, Schemas: schemas})
	rich, err := schemas.FindMessageByName("rich.v1.Rich")
	if err != nil {
		t.Fatal(err)
	}
	msg := dynamicpb.NewMessage(rich.Descriptor())
	if err := (prototext.UnmarshalOptions{Resolver: schemas}).Unmarshal([]byte(richMessage), msg); err != nil {
		t.Fatal(err)
	}
	raw, err := protojson.MarshalOptions{Resolver: schemas}.Marshal(msg)
	if err != nil {
		t.Fatal(err)
	}
	var value map[string]any
	if err := json.Unmarshal(raw, &value); err != nil {
		t.Fatal(err)
	}
	schema := doc.Components.Schemas["rich.v1.Rich"].Value
	if err := schema.VisitJSON(value, openapi3.EnableJSONSchema2020()); err != nil {
		t.Errorf("%s is not of its schema: %v", raw, err)
	}
	for key := range value {
		if schema.Properties[key] == nil {
			t.Errorf("%s is not in the schema", key)
		}
	}
	value["large"] = true
	if err := schema.VisitJSON(value, openapi3.EnableJSONSchema2020()); err == nil {
		t.Error("a number that is a boolean is of the schema too")
	}

	post := doc.Paths.Value("/rich.v1.RichService/Add").Post
	example, err := json.Marshal(post.RequestBody.Value.Content.Get("application/json").Example)
	if err != nil {
		t.Fatal(err)
	}
	if err := (protojson.UnmarshalOptions{Resolver: schemas}).Unmarshal(example, dynamicpb.NewMessage(rich.Descriptor())); err != nil {
		t.Errorf("example %s: %v", example, err)
	}
}

// A method says what may become of its calls, no more and no less.
func TestMethods(t *testing.T) {
	t.Parallel()
	service := openapi.Service{Name: "rich.v1.RichService", Proxied: true, Stored: true}
	proxied := openapi.Service{Name: "rich.v1.RichService", Proxied: true}
	doc := document(t, openapi.Config{Services: []openapi.Service{service, {Name: "no.v1.Schema"}}, Schemas: richSchemas(t), Tasks: true})
	bare := document(t, openapi.Config{Services: []openapi.Service{proxied}, Schemas: richSchemas(t)})
	for _, c := range []struct {
		doc    *openapi3.T
		method string
		want   []string // statuses with the reasons of errors
		get    bool
	}{
		{doc, "Look", []string{
			"200", "202", "400 HEADER_INVALID", "406 ANSWER_UNREADABLE", "409 ATTEMPTS_SPENT", "410 ANSWER_EXPIRED TASK_EXPIRED", "413 REQUEST_TOO_LARGE",
			"415 PROTOCOL_UNSUPPORTED", "422 IDEMPOTENCY_KEY_REUSED", "429 ANSWER_TOO_LARGE QUEUE_FULL", "431 HEADERS_TOO_LARGE", "499 TASK_CANCELLED",
			"503 CALL_NOT_STORABLE SERVICE_UNAVAILABLE STORE_UNAVAILABLE STORE_UNCERTAIN", "default",
		}, true},
		{doc, "Add", []string{
			"200", "202", "400 HEADER_INVALID", "406 ANSWER_UNREADABLE", "409 ATTEMPTS_SPENT", "410 ANSWER_EXPIRED TASK_EXPIRED", "413 REQUEST_TOO_LARGE",
			"415 PROTOCOL_UNSUPPORTED", "422 IDEMPOTENCY_KEY_REUSED", "429 ANSWER_TOO_LARGE QUEUE_FULL", "431 HEADERS_TOO_LARGE", "499 TASK_CANCELLED", "500 OUTCOME_UNKNOWN",
			"503 CALL_NOT_STORABLE SERVICE_UNAVAILABLE STORE_UNAVAILABLE", "default",
		}, false},
		{bare, "Set", []string{"200", "400 HEADER_INVALID", "415 PROTOCOL_UNSUPPORTED", "431 HEADERS_TOO_LARGE", "503 SERVICE_UNAVAILABLE", "default"}, false},
		{bare, "Add", []string{"200", "400 HEADER_INVALID", "415 PROTOCOL_UNSUPPORTED", "431 HEADERS_TOO_LARGE", "500 OUTCOME_UNKNOWN", "503 SERVICE_UNAVAILABLE", "default"}, false},
	} {
		path := c.doc.Paths.Value("/rich.v1.RichService/" + c.method)
		if got := responses(path.Post); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.method, got, c.want)
		}
		if (path.Get != nil) != c.get {
			t.Errorf("%s: GET is %v, want %v", c.method, path.Get != nil, c.get)
		}
	}
	if doc.Paths.Value("/rich.v1.RichService/Watch") != nil || !strings.Contains(doc.Tags[0].Description, "Watch") {
		t.Error("a stream is described as if it could be called, or not named at all")
	}
	if !doc.Paths.Value("/rich.v1.RichService/Set").Post.Deprecated {
		t.Error("Set is not deprecated")
	}
	if !strings.Contains(doc.Info.Description, "no.v1.Schema") {
		t.Error("a route without a schema is not told of")
	}
	stored := doc.Components.Responses["CALL_STORED"].Value
	for _, header := range []string{"Location", "Retry-After", "Holdline-Task", "Preference-Applied"} {
		if stored.Headers[header] == nil {
			t.Errorf("202 has no %s", header)
		}
	}
	if bare.Components.Responses["CALL_STORED"] != nil || bare.Paths.Value("/v1/tasks/{id}") != nil {
		t.Error("without a MOM there are tasks")
	}
}

// responses are the statuses of an operation, each with the names of its examples.
func responses(operation *openapi3.Operation) (list []string) {
	for status, response := range operation.Responses.Map() {
		var names []string
		for name := range response.Value.Content.Get("application/json").Examples {
			names = append(names, name)
		}
		slices.Sort(names)
		list = append(list, strings.Join(append([]string{status}, names...), " "))
	}
	slices.Sort(list)
	return list
}
