package openapi

import "holdline/internal/contract"

// timeoutHeader is Connect's own.
const timeoutHeader = "Connect-Timeout-Ms"

// headersOf are the request headers of the contract that calls of a service may
// carry.
func headersOf(service Service) []string {
	return append(names(contract.FromCaller, service), timeoutHeader)
}

// responseHeadersOf are those of an answer.
func responseHeadersOf(service Service) []string { return names(contract.FromHoldline, service) }

// names are those of the headers that mean something for a service.
func names(from contract.Sender, service Service) (names []string) {
	for _, h := range contract.Headers {
		if h.From == from && (service.Stored || service.Proxied && h.Unstored) {
			names = append(names, h.Name)
		}
	}
	return names
}

// requestHeaders are all of those.
func requestHeaders() (list object) {
	add := func(name, doc string, schema object) {
		list = append(list, field{name, object{{"name", name}, {"in", "header"}, {"description", doc}, {"schema", schema}}})
	}
	for _, h := range contract.Headers {
		if h.From != contract.FromCaller {
			continue
		}
		schema := object{{"type", "string"}}
		if h.Pattern != "" {
			schema = append(schema, field{"pattern", h.Pattern})
		}
		if h.Values != nil {
			schema = append(schema, field{"enum", h.Values})
		}
		add(h.Name, h.Doc, schema)
	}
	add(timeoutHeader, "The caller's deadline in milliseconds. It bounds everything.",
		object{{"type", "integer"}, {"minimum", 0}, {"maximum", 9999999999}})
	return list
}

// responseHeaders are those of all responses.
func responseHeaders() (list object) {
	add := func(name, doc string) {
		list = append(list, field{name, object{{"description", doc}, {"schema", object{{"type", "string"}}}}})
	}
	for _, h := range contract.Headers {
		if h.From == contract.FromHoldline {
			add(h.Name, h.Doc)
		}
	}
	// What goes with a handle is HTTP's own.
	add("Location", "Where to ask for the task.")
	add("Retry-After", "Seconds to wait before asking again.")
	add("Cache-Control", "`no-store`")
	return list
}
