package gateway_test

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"holdline/internal/contract"
)

// protocol is one way to speak to the gateway.
type protocol struct {
	name    string
	major   int // version of HTTP
	unary   string
	stream  string // content types
	timeout string // the header of a deadline, with %d milliseconds
	quiet   bool   // its calls do not ask for the decision
}

var (
	connect1 = protocol{"Connect over HTTP1", 1, "application/json", "application/connect+json", "Connect-Timeout-Ms: %d", false}
	connect2 = protocol{"Connect over h2c", 2, "application/json", "application/connect+json", "Connect-Timeout-Ms: %d", false}
	grpc     = protocol{"gRPC over h2c", 2, "application/grpc+proto", "application/grpc+proto", "Grpc-Timeout: %dm", false}
	web      = protocol{"gRPC-Web over HTTP1", 1, "application/grpc-web+proto", "application/grpc-web+proto", "Grpc-Timeout: %dm", false}

	all = []protocol{connect1, connect2, grpc, web}
	h2  = []protocol{connect2, grpc}
	h1  = []protocol{connect1, web}
	onG = []protocol{grpc}
	onW = []protocol{web}
	onC = []protocol{connect1, connect2}
)

// method is one way to call the service of the table.
type method struct {
	name, path string
	size       int // of the message, in bytes
	stream     bool
}

const faultService = "test.v1.FaultService"

var (
	get        = method{name: "repeatable", path: "/" + faultService + "/Get"}
	put        = method{name: "idempotent", path: "/" + faultService + "/Put"}
	add        = method{name: "undeclared", path: "/" + faultService + "/Add"}
	bigGet     = method{name: "large repeatable", path: get.path, size: 1<<20 + 1}
	bigAdd     = method{name: "large undeclared", path: add.path, size: 1<<20 + 1}
	watch      = method{name: "stream", path: "/" + faultService + "/Watch", stream: true}
	schemaless = method{name: "schema-less", path: "/" + faultService + "/Nameless"}
)

// said is what a caller reads.
type said struct {
	// what, in a few words: "ok" from the service, "held" from the MOM,
	// "unavailable" as the service says it, "unavailable
	// SERVICE_UNAVAILABLE retry" as the gateway does, "HTTP 418", "broken".
	what     string
	decision string
	task     string
	header   http.Header
	body     string
}

// request of a method in a protocol.
func (p protocol) request(tb testing.TB, url string, m method, headers ...string) *http.Request {
	tb.Helper()
	contentType, body := p.unary, "{}"+strings.Repeat(" ", m.size)
	if m.stream {
		contentType = p.stream
	}
	switch {
	case strings.HasPrefix(contentType, "application/grpc"):
		body = envelope(0, strings.Repeat("\x00", m.size))
	case m.stream:
		body = envelope(0, "{}")
	}
	if !p.quiet {
		headers = append(headers, contract.HeaderExplain+": 1")
	}
	return request(tb, url+m.path, strings.NewReader(body), append(headers, "Content-Type: "+contentType, "Te: trailers")...)
}

// call calls, and reads all of the answer.
func (p protocol) call(tb testing.TB, client *http.Client, url string, m method, headers ...string) said {
	tb.Helper()
	res, err := client.Do(p.request(tb, url, m, headers...))
	if err != nil {
		return said{what: "broken"}
	}
	return hear(res)
}

// hear reads what an answer says, and closes it.
func hear(res *http.Response) said {
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	s := said{header: res.Header, decision: res.Header.Get(contract.HeaderDecision), task: res.Header.Get(contract.HeaderTask), body: string(body)}
	if err != nil {
		s.what = "broken"
		return s
	}
	code, details, ok := verdict(res, body)
	switch {
	case !ok:
		s.what = "HTTP " + strconv.Itoa(res.StatusCode)
	case code == 0 && s.task != "":
		s.what = "held"
	case code == 0:
		s.what = "ok"
	default:
		s.what = strings.Join(append([]string{code.String()}, details...), " ")
	}
	return s
}

// verdict reads the code of an answer and, of its details, the reason and
// whether there is a RetryInfo.
func verdict(res *http.Response, body []byte) (code connect.Code, details []string, ok bool) {
	contentType := res.Header.Get("Content-Type")
	var found []*anypb.Any
	switch {
	case strings.HasPrefix(contentType, "application/grpc") && res.StatusCode == http.StatusOK:
		trailer := textproto.MIMEHeader(res.Trailer)
		if raw := frameOf(body, 0x80); raw != nil {
			trailer = textproto.MIMEHeader{}
			for line := range strings.SplitSeq(string(raw), "\r\n") {
				key, value, _ := strings.Cut(line, ":")
				trailer.Set(key, strings.TrimSpace(value))
			}
		}
		if res.Header.Get("Grpc-Status") != "" {
			trailer = textproto.MIMEHeader(res.Header)
		}
		n, err := strconv.Atoi(trailer.Get("Grpc-Status"))
		if err != nil {
			return 0, nil, false
		}
		var s status.Status
		if raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(trailer.Get("Grpc-Status-Details-Bin"), "=")); err == nil {
			_ = proto.Unmarshal(raw, &s)
		}
		code, found = connect.Code(n), s.GetDetails()
	case contentType == "application/connect+json":
		var end struct{ Error *wireError }
		if json.Unmarshal(frameOf(body, 2), &end) != nil {
			return 0, nil, false
		}
		if end.Error != nil {
			code, found = end.Error.read()
		}
	case res.StatusCode == http.StatusOK:
	default:
		var e wireError
		if contentType != "application/json" || json.Unmarshal(body, &e) != nil || e.Code == "" {
			return 0, nil, false
		}
		code, found = e.read()
	}
	for _, detail := range found {
		msg, err := detail.UnmarshalNew()
		if err != nil {
			continue
		}
		switch msg := msg.(type) {
		case *errdetails.ErrorInfo:
			details = append(details, msg.GetReason())
		case *errdetails.RetryInfo:
			details = append(details, "retry")
		}
	}
	return code, details, code <= connect.CodeUnauthenticated
}

// wireError is a Connect error.
type wireError struct {
	Code    string
	Details []struct{ Type, Value string }
}

func (e wireError) read() (code connect.Code, details []*anypb.Any) {
	for code = connect.CodeCanceled; code.String() != e.Code && code <= connect.CodeUnauthenticated; code++ {
	}
	for _, detail := range e.Details {
		raw, _ := base64.RawStdEncoding.DecodeString(detail.Value)
		details = append(details, &anypb.Any{TypeUrl: "type.googleapis.com/" + detail.Type, Value: raw})
	}
	return code, details
}

// frameOf returns the first envelope with a flag.
func frameOf(body []byte, flag byte) []byte {
	for len(body) >= 5 {
		length := int(binary.BigEndian.Uint32(body[1:]))
		if len(body) < 5+length {
			return nil
		}
		if body[0]&flag != 0 {
			return body[5 : 5+length]
		}
		body = body[5+length:]
	}
	return nil
}

// deadline is the header that gives a call so much time.
func (p protocol) deadline(d time.Duration) string {
	return fmt.Sprintf(p.timeout, d.Milliseconds())
}
