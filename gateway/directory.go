package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	connectv1 "connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"google.golang.org/protobuf/reflect/protoreflect"

	gatewayv1 "holdline/gen/gateway/v1"
	"holdline/internal/route"
)

// probeTimeout bounds a look at a service's health.
const probeTimeout = time.Second

// directory implements gatewayv1connect.DirectoryServiceHandler.
type directory struct {
	services func() []string // sorted
	targets  *targets
	schemas  *route.Schemas
}

// ListServices asks all services at once, so it takes as long as the slowest.
func (d *directory) ListServices(ctx context.Context, _ *gatewayv1.ListServicesRequest) (*gatewayv1.ListServicesResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var list []*gatewayv1.Service
	var probes sync.WaitGroup
	for _, name := range d.services() {
		t := d.targets.of(name)
		if t == nil {
			continue // its route has just gone
		}
		one := &gatewayv1.Service{
			Name:         name,
			State:        gatewayv1.ServiceState_SERVICE_STATE_DOWN,
			Methods:      methodsOf(d.schemas, name),
			SchemaSource: sourceOf(d.schemas, name),
		}
		one.Understands, one.Translated = t.pool.Heard()
		list = append(list, one)
		probes.Go(func() {
			if t.pool.Healthy(ctx) {
				one.State = gatewayv1.ServiceState_SERVICE_STATE_UP
			}
		})
	}
	probes.Wait()
	return &gatewayv1.ListServicesResponse{Services: list}, nil
}

func sourceOf(schemas *route.Schemas, service string) gatewayv1.SchemaSource {
	switch {
	case schemas.Given(service):
		return gatewayv1.SchemaSource_SCHEMA_SOURCE_IMAGE
	case schemas.Service(service) != nil:
		return gatewayv1.SchemaSource_SCHEMA_SOURCE_REFLECTION
	}
	return gatewayv1.SchemaSource_SCHEMA_SOURCE_NONE
}

func methodsOf(schemas *route.Schemas, service string) []*gatewayv1.Method {
	var list []*gatewayv1.Method
	for _, m := range schemas.Methods(service) {
		md := m.Descriptor
		list = append(list, &gatewayv1.Method{
			Name:       string(md.Name()),
			Kind:       kindOf(md),
			Repeatable: m.Repeatable,
			Input:      string(md.Input().FullName()),
			Output:     string(md.Output().FullName()),
		})
	}
	return list
}

func kindOf(md protoreflect.MethodDescriptor) gatewayv1.MethodKind {
	switch {
	case md.IsStreamingClient() && md.IsStreamingServer():
		return gatewayv1.MethodKind_METHOD_KIND_BIDI_STREAM
	case md.IsStreamingClient():
		return gatewayv1.MethodKind_METHOD_KIND_CLIENT_STREAM
	case md.IsStreamingServer():
		return gatewayv1.MethodKind_METHOD_KIND_SERVER_STREAM
	}
	return gatewayv1.MethodKind_METHOD_KIND_UNARY
}

// health is the merged grpc.health.v1: the gateway's own for the empty name, and
// for a routed service that service's, asked now.
type health struct {
	targets  *targets
	draining atomic.Bool
}

// Check implements grpchealth.Checker.
func (h *health) Check(ctx context.Context, req *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	if req.Service == "" {
		return status(!h.draining.Load()), nil
	}
	t := h.targets.of(req.Service)
	if t == nil {
		return nil, connectv1.NewError(connectv1.CodeNotFound, nil)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return status(t.pool.Healthy(ctx)), nil
}

func status(serving bool) *grpchealth.CheckResponse {
	if serving {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}
	}
	return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}
}
