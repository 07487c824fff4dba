package gateway_test

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
)

// comparable is what was told of a case without what is a matter of luck. When a connection over HTTP/2 ends in an error, that is all but what its caller
// reads. And a handler may have begun, or not, when its request turns out to be none.
func comparable(told []string) []string {
	ends := slices.ContainsFunc(told, endsInError)
	if !ends && !has(told, "caller read: stream", ": reset") && !has(told, "caller read: stream", "the end of") {
		return told
	}
	return slices.DeleteFunc(slices.Clone(told), func(line string) bool {
		return ends && !strings.HasPrefix(line, "caller read") || strings.HasPrefix(line, "counted: call_duration_seconds refused") ||
			strings.HasPrefix(line, "counted: call_duration_seconds left") || strings.HasPrefix(line, "counted: attempts_total unsendable") || strings.HasPrefix(line, "counted: attempts_total caller_left")
	})
}

// has tells whether a line has all of some parts.
func has(told []string, parts ...string) bool {
	return slices.ContainsFunc(told, func(line string) bool {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				return false
			}
		}
		return true
	})
}

// exceptions are the ways in which the engines may differ.
var exceptions = []struct {
	why string
	is  func(c *oddCase, own, other []string) bool
}{
	{
		"net/http takes a stream whose headers it has refused for one that was never opened, so that DATA on it ends the connection; " +
			"we refuse the stream alone (RFC 9113, section 5.4.2)",
		func(_ *oddCase, own, other []string) bool {
			at := slices.IndexFunc(other, endsInError)
			if at < 0 {
				return false
			}
			for i := range at + 1 { // up to then they are the same, and one was refused
				if refuses(own[i]) {
					return true
				}
				if i == len(own)-1 || own[i] != other[i] {
					return false
				}
			}
			return false
		},
	},
	{
		"to net/http, padding that is longer than its HEADERS is an error of the stream; to us it is one of the connection (RFC 9113, section 6.2)",
		func(c *oddCase, own, _ []string) bool {
			return has(own, "GOAWAY") && c.sends(func(r *oddRequest) bool {
				return slices.ContainsFunc(r.frames, func(f oddFrame) bool { return f.flags.Has(http2.FlagDataPadded) && f.payload[0] == 0x7f })
			})
		},
	},
	{
		"net/http lets a handler find out that a body is not as long as its Content-Length, and takes the first of two lengths; " +
			"we reset the stream (RFC 9113, section 8.1.1)",
		func(c *oddCase, own, _ []string) bool {
			return has(own, ": reset PROTOCOL_ERROR") && c.sends(func(r *oddRequest) bool {
				lengths := theLengths.FindAllStringSubmatch(headOf(r.frames), -1)
				return len(lengths) > 1 || len(lengths) == 1 && lengths[0][1] != strconv.Itoa(dataOf(r.frames))
			})
		},
	},
	{
		"over HTTP/2 net/http's server takes a method and a host that are none, and its client refuses to send them, or writes another host; " +
			"we refuse the request as malformed",
		func(c *oddCase, own, _ []string) bool {
			return has(own, ": reset PROTOCOL_ERROR") && c.sends(func(r *oddRequest) bool {
				return slices.ContainsFunc(noMethodOrHost, func(s string) bool { return strings.Contains(headOf(r.frames), literal(s)[1:]) })
			})
		},
	},
	{
		"net/http's client of HTTP/2 takes a 101, an odd status, and a Content-Length that is none or is there twice; to us the answer is malformed " +
			"(RFC 9113, section 8.1.1)",
		func(c *oddCase, own, _ []string) bool {
			return has(own, "counted: attempts_total broken") && c.isAnswered(func(a *oddAnswer) bool {
				head := headOf(a.frames)
				return strings.Count(head, ":status") > strings.Count(head, ":status\x031") && !strings.Contains(head, ":status\x03200") || strings.Contains(head, ":status\x03101") ||
					strings.Count(head, "content-length") > 1 || strings.Contains(head, "content-length\x03odd") || strings.Contains(head, "content-length\x02-1")
			})
		},
	},
	{
		"net/http's client of HTTP/2 takes RST_STREAM with PROTOCOL_ERROR for a refusal; to us the call may have run",
		func(c *oddCase, own, other []string) bool {
			return has(own, "counted: attempts_total broken") && c.isAnswered(func(a *oddAnswer) bool {
				return slices.ContainsFunc(a.frames, func(f oddFrame) bool { return f.kind == http2.FrameRSTStream && f.payload == "\x00\x00\x00\x01" })
			})
		},
	},
	{
		"to net/http's client of HTTP/2, a call above the last one of a GOAWAY may have run if there is an error in it; to us it has not (RFC 9113, section 6.8)",
		func(c *oddCase, own, other []string) bool {
			return c.service == 2 && has(own, "counted: attempts_total refused") && has(other, "counted: attempts_total broken")
		},
	},
	{
		"net/http's client of HTTP/2 sends a request without a body that was refused again and again, before anybody hears of it",
		func(c *oddCase, own, other []string) bool {
			return c.service == 2 && has(own, "counted: attempts_total refused") && !has(other, "counted: attempts_total refused")
		},
	},
	{
		"net/http's client of HTTP/1.1 sends a GET again by itself if a connection ends that was in use before",
		func(c *oddCase, own, other []string) bool {
			return c.service == 1 && has(own, "counted: attempts_total broken") && c.sends(func(r *oddRequest) bool {
				return r.method == http.MethodGet || r.method == http.MethodHead || r.method == http.MethodOptions || r.method == http.MethodTrace
			}) && c.isAnswered(func(a *oddAnswer) bool { return a.end == "reset" })
		},
	},
	{
		"net/http sends a call whose body is as long as its Content-Length before trailers come that are refused",
		func(c *oddCase, own, other []string) bool {
			return has(own, ": reset PROTOCOL_ERROR") && has(other, ": reset PROTOCOL_ERROR") && c.sends(func(r *oddRequest) bool {
				return slices.ContainsFunc(r.frames[min(1, len(r.frames)):], func(f oddFrame) bool { return f.kind == http2.FrameHeaders })
			})
		},
	},
	{
		"net/http's client of HTTP/2 misses the body that a 204 or a 304 says it would have, and takes one that comes; we want none (RFC 9110, section 6.4.1)",
		func(c *oddCase, own, other []string) bool {
			return (has(own, "broken") || has(other, "broken")) && c.isAnswered(func(a *oddAnswer) bool {
				head := headOf(a.frames)
				return (strings.Contains(head, ":status\x03204") || strings.Contains(head, ":status\x03304")) && (strings.Contains(head, "content-length") || dataOf(a.frames) > 0)
			})
		},
	},
	{
		"net/http's client of HTTP/2 passes on as much of an answer as its Content-Length says, and then learns that there is more; to us the answer is malformed " +
			"(RFC 9113, section 8.1.1)",
		func(c *oddCase, own, _ []string) bool {
			return c.service == 2 && has(own, "and a body that breaks off") && c.isAnswered(func(a *oddAnswer) bool {
				lengths := theLengths.FindAllStringSubmatch(headOf(a.frames), -1)
				return len(lengths) == 1 && lengths[0][1] != strconv.Itoa(dataOf(a.frames))
			})
		},
	},
	{
		"over HTTP/1.1 a caller who ends its half has left, as far as that can be seen: what it has sent after a plain call hides it from us",
		func(c *oddCase, own, other []string) bool {
			return c.caller == 1 && c.requests[len(c.requests)-1].cut && has(other, "counted: attempts_total caller_left") && !has(own, "counted: attempts_total caller_left")
		},
	},
	{
		"over HTTP/2 net/http answers OPTIONS * itself; we leave it to the handler",
		func(c *oddCase, _, _ []string) bool {
			return c.sends(func(r *oddRequest) bool {
				return r.method == http.MethodOptions && strings.Contains(headOf(r.frames), ":path\x01*")
			})
		},
	},
	{
		"we know that a whole answer over HTTP/2 is empty, so that a connection over HTTP/1.0 may stay",
		func(c *oddCase, own, other []string) bool {
			return c.service == 2 && has(own, "HTTP/1.0 200", "close=false") && has(other, "HTTP/1.0 200", "close=true")
		},
	},
	{
		"what came of an answer before it broke off is a matter of luck, and so is whether the call is tried again",
		func(c *oddCase, own, other []string) bool {
			return c.service == 2 && has(own, "counted: attempts_total broken") && has(other, "counted: call_duration_seconds broken")
		},
	},
	{
		"over HTTP/1.1 net/http's server sends no trailers after a Content-Length of the service's; to a plain call, we do",
		func(c *oddCase, own, other []string) bool {
			return c.caller == 1 && has(own, "and then: ", "Grpc-Status: ") && len(own) == len(other) && c.isAnswered(func(a *oddAnswer) bool {
				return strings.Contains(headOf(a.frames), "content-length")
			})
		},
	},
}

// noMethodOrHost are fields of requests that are none.
var noMethodOrHost = []string{
	":method: PO ST", ":method: P\xd6ST", ":authority: a b", ":authority: user@a", ":authority: a/b", ":authority: caf\xe9", "host: a b", "host: a/b", "host: user@a", "host: caf\xe9",
}

// theLengths are those that a block of headers says, with the byte that says how long each is.
var theLengths = regexp.MustCompile(`(?s)content-length.([^\x00]*)`)

// headOf is all that frames have of headers.
func headOf(frames []oddFrame) string {
	var b strings.Builder
	for _, f := range frames {
		if f.kind == http2.FrameHeaders || f.kind == http2.FrameContinuation {
			b.WriteString(f.payload)
		}
	}
	return b.String()
}

// dataOf is how many bytes of DATA they have.
func dataOf(frames []oddFrame) (n int) {
	for _, f := range frames {
		if f.kind != http2.FrameData || f.ofConn {
			continue
		}
		if n += len(f.payload); f.flags.Has(http2.FlagDataPadded) {
			n -= 1 + int(f.payload[0])
		}
	}
	return n
}

// sends tells whether a request of the case is one of some.
func (c *oddCase) sends(one func(*oddRequest) bool) bool {
	return slices.ContainsFunc(c.requests, func(r oddRequest) bool { return one(&r) })
}

// isAnswered tells whether an answer is.
func (c *oddCase) isAnswered(one func(*oddAnswer) bool) bool {
	return slices.ContainsFunc(c.answers, func(a oddAnswer) bool { return one(&a) })
}

// exception is the number of the reason why the engines may differ in a case; -1: they may not.
func exception(c *oddCase, own, other []string) int {
	for i := range exceptions {
		if exceptions[i].is(c, own, other) {
			return i
		}
	}
	return -1
}

// endsInError tells whether a caller was told that its connection ends in an error.
func endsInError(line string) bool { return strings.HasSuffix(line, ": GOAWAY") }

// refuses tells whether a caller was told that its request was refused.
func refuses(line string) bool {
	return strings.Contains(line, ": reset") || strings.Contains(line, `":status: 400"`) && strings.Contains(line, "(a reason)") || strings.HasSuffix(line, ": 431")
}
