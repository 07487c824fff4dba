// Package services lists the services that Holdline is shipped with. Each lives
// in a package of its own; nothing else in Holdline knows arithmetic.
package services

import (
	"strings"

	"connectrpc.com/connect/v2"

	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	"holdline/services/multiplication"
	"holdline/services/subtraction"
	"holdline/services/sum"
)

// Service is one shipped service.
type Service struct {
	Name     string // short, as on the command line
	FullName string // as in its schema
	Method   string // its only method
	Port     string // its default port
	Register func(*connect.Server)
}

// All is every shipped service.
var All = []Service{
	{"sum", arithmeticv1connect.SumServiceName, "Sum", "8081", sum.Register},
	{"subtraction", arithmeticv1connect.SubtractionServiceName, "Subtract", "8082", subtraction.Register},
	{"multiplication", arithmeticv1connect.MultiplicationServiceName, "Multiply", "8083", multiplication.Register},
}

// Find returns the service with this short name.
func Find(name string) (Service, bool) {
	for _, s := range All {
		if s.Name == name {
			return s, true
		}
	}
	return Service{}, false
}

// Names lists the short names, for messages.
func Names() string {
	names := make([]string, len(All))
	for i, s := range All {
		names[i] = s.Name
	}
	return strings.Join(names, ", ")
}
