package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// sampleTask is the task of the examples.
var sampleTask = contract.TaskID{Service: "package.Service"}.String()

// reasonsOf are the reasons for which Holdline itself ends calls of a method.
func reasonsOf(service Service, repeatable bool) []momv1.Reason {
	return slices.DeleteFunc(reasons(), func(reason momv1.Reason) bool {
		switch reason {
		case momv1.Reason_REASON_SERVICE_UNAVAILABLE, momv1.Reason_REASON_HEADERS_TOO_LARGE, momv1.Reason_REASON_HEADER_INVALID,
			momv1.Reason_REASON_PROTOCOL_UNSUPPORTED:
			return !service.Proxied
		case momv1.Reason_REASON_OUTCOME_UNKNOWN:
			return !service.Proxied || repeatable
		case momv1.Reason_REASON_STORE_UNCERTAIN:
			return !service.Stored || !repeatable
		case momv1.Reason_REASON_CALL_STORED, // no error over HTTP
			momv1.Reason_REASON_NO_ROUTE, momv1.Reason_REASON_TASK_NOT_FOUND, momv1.Reason_REASON_TASK_STATE,
			momv1.Reason_REASON_OPERATORS_ONLY: // not of calls
			return true
		}
		return !service.Stored
	})
}

// reasons are all there are, in the schema's order.
func reasons() []momv1.Reason {
	values := momv1.Reason(0).Descriptor().Values()
	list := make([]momv1.Reason, 0, values.Len())
	for i := range values.Len() {
		if number := values.Get(i).Number(); number != 0 {
			list = append(list, momv1.Reason(number))
		}
	}
	return list
}

// statuses are the HTTP statuses of reasons, as they are written.
var statuses = sync.OnceValue(func() map[momv1.Reason]int {
	all := map[momv1.Reason]int{}
	for _, reason := range reasons() {
		all[reason] = say(contract.Errorf(reason, "")).status
	}
	return all
})

// failures returns the responses that Holdline gives for these reasons, by status.
func (d *describer) failures(reasons ...momv1.Reason) (list object) {
	byStatus := map[int][]momv1.Reason{}
	for _, reason := range reasons {
		byStatus[statuses()[reason]] = append(byStatus[statuses()[reason]], reason)
	}
	for _, status := range slices.Sorted(maps.Keys(byStatus)) {
		names := make([]string, 0, 1)
		for _, reason := range byStatus[status] {
			names = append(names, contract.Name(reason))
		}
		name := strings.Join(names, "-")
		d.response(name, func() object { return d.failure(byStatus[status]) })
		list = append(list, field{strconv.Itoa(status), ref("responses", name)})
	}
	return list
}

// failure describes the response of one status, with the errors as they are written.
func (d *describer) failure(reasons []momv1.Reason) object {
	var text strings.Builder
	var examples object
	retry := false
	for _, reason := range reasons {
		comment := d.schemas.source.Comment(reason.Descriptor().Values().ByNumber(reason.Number()))
		_, _ = fmt.Fprintf(&text, "- `%s`: %s\n", contract.Name(reason), comment)
		err := contract.Errorf(reason, "%s", first(comment))
		examples = append(examples, field{contract.Name(reason), object{{"value", say(err).body}}})
		retry = retry || contract.RetryAfter(err) != ""
	}
	response := object{{"description", strings.TrimSpace(text.String())}}
	if retry {
		response = append(response, field{"headers", object{{"Retry-After", ref("headers", "Retry-After")}}})
	}
	return append(response, field{"content", object{{"application/json", object{{"schema", d.errorSchema()}, {"examples", examples}}}}})
}

// stored describes the handle. Its headers are those that contract.StoredHeader sets.
func (d *describer) stored() object {
	return d.response("CALL_STORED", func() object {
		d.schemas.message((*momv1.TaskHandle)(nil).ProtoReflect().Descriptor()) // for readers; no schema tells one detail from another
		said := say(contract.Stored(&momv1.TaskHandle{
			Id: sampleTask, State: momv1.TaskState_TASK_STATE_QUEUED,
			ExpireTime: timestamppb.New(time.Date(2030, 1, 1, 0, 15, 0, 0, time.UTC)),
		}))
		headers := object{}
		for _, name := range append(slices.Sorted(maps.Keys(maps.Collect(contract.StoredHeader("", false)))), contract.HeaderApplied) {
			headers = append(headers, field{name, ref("headers", name)})
		}
		return object{
			{"description", "`CALL_STORED`: the call is a task without an answer yet. The body is a Connect error, `deadline_exceeded`, " +
				"with the task's handle (`mom.v1.TaskHandle`) among its details; `Location` leads to the task, its answer is below that at `/answer`."},
			{"headers", headers},
			{"content", object{{"application/json", object{{"schema", d.errorSchema()}, {"example", said.body}}}}},
		}
	})
}

// errorSchema is the body of a Connect error. No message can have its name.
func (d *describer) errorSchema() object {
	return d.schemas.add("connect-error", func() object {
		var codes []string
		for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
			codes = append(codes, code.String())
		}
		return object{
			{"type", "object"},
			{"description", "An error in the Connect protocol."},
			{"properties", object{
				{"code", object{{"type", "string"}, {"enum", codes}}},
				{"message", object{{"type", "string"}}},
				{"details", object{{"type", "array"}, {"items", object{
					{"type", "object"},
					{"properties", object{
						{"type", object{{"type", "string"}, {"description", "The detail's full name, such as google.rpc.ErrorInfo."}}},
						{"value", object{{"type", "string"}, {"contentEncoding", "base64"}, {"description", "The detail, in the binary format, base64 without padding."}}},
						{"debug", object{{"description", "The detail as JSON, for people."}}},
					}},
					{"required", []string{"type", "value"}},
				}}}},
			}},
			{"required", []string{"code"}},
		}
	})
}

// say writes an error to a caller of the Connect protocol.
func say(err *connect.Error) *recorder {
	said := &recorder{header: http.Header{}}
	contract.WriteError(said, &http.Request{Method: http.MethodPost, Header: http.Header{"Content-Type": {"application/json"}}}, err)
	return said
}

// recorder is an http.ResponseWriter that keeps what is written.
type recorder struct {
	header http.Header
	status int
	body   json.RawMessage
}

// Header implements http.ResponseWriter.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) { r.status = status }

// Write implements http.ResponseWriter.
func (r *recorder) Write(raw []byte) (int, error) {
	r.body = append(r.body, raw...)
	return len(raw), nil
}

// first is a comment up to where its first statement ends.
func first(comment string) string {
	if end := statementEnd.FindStringIndex(comment); end != nil {
		return comment[:end[0]]
	}
	return comment
}

var statementEnd = regexp.MustCompile(`[.:;](\s|$)|\n`)
