// Package openapi describes the unary methods of services for those who call them over
// HTTP: an OpenAPI 3.1 document, made of the schemas and of the contract.
package openapi

import (
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"holdline/internal/route"
)

// Service is one to be described, if there is a schema of it.
type Service struct {
	Name string
	// Proxied: its calls go through the proxy, which retries and explains.
	Proxied bool
	// Stored: calls that it cannot take become tasks.
	Stored bool
}

// Config is what there is to describe.
type Config struct {
	Services []Service // in the order that they are shown in
	Schemas  *route.Schemas
	Tasks    bool // there is /v1/tasks
}

// Write writes the document, in YAML, as it is made: all of it at once would take much memory.
func Write(out io.Writer, cfg Config) error {
	w := &writer{out: out}
	w.mapping(slices.Values(describe(cfg)), "", true)
	w.write("\n")
	return w.err
}

// describer makes one document.
type describer struct {
	schemas   *schemas
	responses object
	described map[string]bool // names of responses
}

// describe makes the OpenAPI document. Paths are made as they are written, and what
// they refer to is known after them.
func describe(cfg Config) object {
	d := &describer{schemas: &schemas{source: cfg.Schemas, seen: map[string]bool{}}, described: map[string]bool{}}
	var tags []object
	var unknown []string
	for _, service := range cfg.Services {
		if sd := cfg.Schemas.Service(service.Name); sd != nil {
			tags = append(tags, object{{"name", service.Name}}.with("description", d.about(sd)))
		} else {
			unknown = append(unknown, "`"+service.Name+"`")
		}
	}
	return object{
		{"openapi", "3.1.0"},
		{"info", object{{"title", "Holdline"}, {"description", intro(cfg.Tasks, unknown)}, {"version", "v1"}}},
		{"servers", []object{{{"url", "/"}}}}, // the gateway that serves this
		{"tags", tags},
		{"paths", d.paths(cfg)},
		{"components", object{
			{"schemas", later(func() any { return d.schemas.sorted() })},
			{"responses", later(func() any { return d.responses })},
			{"parameters", requestHeaders()}, {"headers", responseHeaders()},
		}},
	}
}

// about describes a service.
func (d *describer) about(sd protoreflect.ServiceDescriptor) string {
	var streams []string
	for i := range sd.Methods().Len() {
		if md := sd.Methods().Get(i); !unary(md) {
			streams = append(streams, "`"+string(md.Name())+"`")
		}
	}
	text := d.schemas.source.Comment(sd)
	if len(streams) > 0 {
		text += "\n\nStreams, which only RPC clients can call: " + strings.Join(streams, ", ") + "."
	}
	return strings.TrimSpace(text)
}

// paths describes every unary method, and what there is beside them.
func (d *describer) paths(cfg Config) fields {
	return func(yield func(field) bool) {
		for _, service := range cfg.Services {
			sd := cfg.Schemas.Service(service.Name)
			if sd == nil {
				continue
			}
			for i := range sd.Methods().Len() {
				if md := sd.Methods().Get(i); unary(md) && !yield(field{procedure(service, md), d.path(service, md)}) {
					return
				}
			}
		}
		if cfg.Tasks {
			for _, f := range d.tasks() {
				if !yield(f) {
					return
				}
			}
		}
	}
}

func unary(md protoreflect.MethodDescriptor) bool {
	return !md.IsStreamingClient() && !md.IsStreamingServer()
}

func intro(tasks bool, unknown []string) string {
	text := "Every unary method is an HTTP resource here: POST a JSON message, as the Connect protocol has it. gRPC and gRPC-Web callers " +
		"use the same paths, with the same schemas; the gateway translates for services that speak nothing but gRPC."
	if tasks {
		text += " A call whose service is down is stored, replayed when the service is back, and its answer kept: " +
			"its caller waits, or gets a task handle and HTTP 202."
	}
	if len(unknown) > 0 {
		text += "\n\nRouted without a schema, and so not described: " + strings.Join(unknown, ", ") + "."
	}
	return text
}

func procedure(service Service, md protoreflect.MethodDescriptor) string {
	return "/" + service.Name + "/" + string(md.Name())
}

// response returns a reference to a response, and makes it when it is the first.
func (d *describer) response(name string, make func() object) object {
	if !d.described[name] {
		d.described[name] = true
		d.responses = append(d.responses, field{name, make()})
	}
	return ref("responses", name)
}

// path describes a unary method: POST, and GET where the schema allows it.
func (d *describer) path(service Service, md protoreflect.MethodDescriptor) object {
	path := object{{"post", d.operation(service, md, false)}}
	options, _ := md.Options().(*descriptorpb.MethodOptions)
	if options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS {
		path = append(path, field{"get", d.operation(service, md, true)})
	}
	return path
}

func (d *describer) operation(service Service, md protoreflect.MethodDescriptor, get bool) object {
	comment, id := d.schemas.source.Comment(md), string(md.FullName())
	summary := first(comment)
	var parameters []object
	if get {
		id, summary = id+".get", "The same, with the request in the URL"
		parameters = append(parameters, d.query(md)...)
	}
	for _, name := range headersOf(service) {
		parameters = append(parameters, ref("parameters", name))
	}
	operation := object{
		{"tags", []string{service.Name}},
		{"operationId", id},
	}.with("summary", summary).with("description", comment)
	if options, ok := md.Options().(*descriptorpb.MethodOptions); ok && options.GetDeprecated() {
		operation = append(operation, field{"deprecated", true})
	}
	operation = append(operation, field{"parameters", parameters})
	if !get {
		operation = append(operation, field{"requestBody", object{
			{"required", true},
			{"content", object{
				{"application/json", object{{"schema", d.schemas.message(md.Input())}, {"example", example(md.Input(), 0)}}},
				binary,
			}},
		}})
	}
	return append(operation, field{"responses", d.results(service, md)})
}

// binary is a message in the binary format.
var binary = field{"application/proto", object{{"schema", object{{"type", "string"}, {"format", "binary"}}}}}

// query describes the query parameters of a GET in the Connect protocol.
func (d *describer) query(md protoreflect.MethodDescriptor) []object {
	parameter := func(name, description string, required bool, values ...string) object {
		p := object{{"name", name}, {"in", "query"}, {"description", description}}
		schema := object{{"type", "string"}, {"enum", values}}
		if required {
			schema = append(schema, field{"default", values[0]})
			p = append(p, field{"required", true})
		}
		return append(p, field{"schema", schema})
	}
	return []object{
		parameter("encoding", "How `message` is written.", true, "json", "proto"),
		{
			{"name", "message"}, {"in", "query"}, {"required", true},
			{"description", "The request. Binary or compressed ones are base64, URL-safe, with `base64=1`."},
			{"content", object{{"application/json", object{{"schema", d.schemas.message(md.Input())}, {"example", example(md.Input(), 0)}}}}},
		},
		parameter("base64", "Whether `message` is base64.", false, "1"),
		parameter("compression", "How `message` is compressed.", false, "gzip", "identity"),
		parameter("connect", "The version of the protocol.", false, "v1"),
	}
}

// results are the responses of a method.
func (d *describer) results(service Service, md protoreflect.MethodDescriptor) object {
	var headers object
	for _, name := range responseHeadersOf(service) {
		headers = append(headers, field{name, ref("headers", name)})
	}
	ok := object{{"description", "The answer."}}
	if len(headers) > 0 {
		ok = append(ok, field{"headers", headers})
	}
	ok = append(ok, field{"content", object{{"application/json", object{{"schema", d.schemas.message(md.Output())}}}, binary}})
	results := object{{"200", ok}}
	if service.Stored {
		results = append(results, field{"202", d.stored()})
	}
	results = append(results, d.failures(reasonsOf(service, route.Repeatable(md))...)...)
	return append(results, field{"default", d.anyError()})
}

// anyError is any other error.
func (d *describer) anyError() object {
	return d.response("Error", func() object {
		return object{
			{"description", "Any other error, the service's own too, with the status that the Connect protocol gives to its code: " +
				"400 for `invalid_argument`, 504 when the caller's deadline is over."},
			{"content", object{{"application/json", object{{"schema", d.errorSchema()}}}}},
		}
	})
}
