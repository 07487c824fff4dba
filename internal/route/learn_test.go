package route_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	_ "holdline/gen/arithmetic/v1" // a service whose schema is linked
	"holdline/internal/route"
)

// told is what a service says of itself, with methods of these names.
func told(tb testing.TB, service string, methods ...string) *route.Schemas {
	tb.Helper()
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String(service + ".proto"), Package: proto.String("acme.v1"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Nothing" + service)}},
		Service:     []*descriptorpb.ServiceDescriptorProto{{Name: proto.String(service)}},
	}
	for _, name := range methods {
		file.Service[0].Method = append(file.Service[0].Method, &descriptorpb.MethodDescriptorProto{
			Name: proto.String(name), InputType: proto.String(".acme.v1.Nothing" + service), OutputType: proto.String(".acme.v1.Nothing" + service),
		})
	}
	raw, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{file}})
	if err != nil {
		tb.Fatal(err)
	}
	schemas, err := route.OpenSnapshot(raw)
	if err != nil {
		tb.Fatal(err)
	}
	return schemas
}

// What a service tells is known from then on, for itself alone, and until it tells something else. An image, a linked
// schema and the route come first.
func TestLearn(t *testing.T) {
	t.Parallel()
	table, err := route.ParseTable([]string{
		"acme.v1.Users=http://a", "acme.v1.Mute=http://a;schema=none", "arithmetic.v1.SumService=http://a", "arithmetic.v1.SubtractionService=http://a;schema=none",
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := table.Schemas()
	if err != nil {
		t.Fatal(err)
	}
	if s.Method("/acme.v1.Users/Get") != nil || s.Digest("acme.v1.Users") != "" {
		t.Fatal("known before it is told")
	}
	first := told(t, "Users", "Get", "Put")
	if !s.Learn("acme.v1.Users", first) || s.Learn("acme.v1.Users", told(t, "Users", "Get", "Put")) {
		t.Error("want it learned once")
	}
	get, digest, version := s.Method("/acme.v1.Users/Get"), s.Digest("acme.v1.Users"), s.Version()
	if get == nil || len(s.Methods("acme.v1.Users")) != 2 || digest == "" || digest != first.Digest("acme.v1.Users") {
		t.Errorf("after it is told: %v, %q", get, digest)
	}
	if s.Of("acme.v1.Users") == s.Of("acme.v1.Others") {
		t.Error("another service sees the types of one that has told them")
	}
	if !s.Learn("acme.v1.Users", told(t, "Users", "Get")) || s.Method("/acme.v1.Users/Put") != nil || s.Digest("acme.v1.Users") == digest || s.Version() == version {
		t.Error("want the new schema instead of the old one")
	}
	for service, learn := range map[string]*route.Schemas{
		"acme.v1.Mute":                     told(t, "Mute", "Get"),
		"arithmetic.v1.SumService":         told(t, "Users", "Get"),
		"acme.v1.Others":                   told(t, "Users", "Get"), // not what it is said to be
		"arithmetic.v1.SubtractionService": told(t, "Users", "Get"),
	} {
		if s.Learn(service, learn) {
			t.Errorf("%s was learned", service)
		}
	}
	if s.Service("arithmetic.v1.SubtractionService") != nil {
		t.Error("a schema is known of a service whose route says that there is none")
	}
	if s.Service("arithmetic.v1.SumService") == nil || !s.Given("arithmetic.v1.SumService") {
		t.Error("a linked schema is not known")
	}
}
