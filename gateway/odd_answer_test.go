package gateway_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/http2"
)

// oddAnswer is what a service says, as bytes of HTTP/1.1 or as frames.
type oddAnswer struct {
	raw    []string // in so many writes
	frames []oddFrame
	end    string // of the connection after that: "close", "reset", or none
	silent bool   // there is nothing
}

// fineAnswer is what a service says that is well.
func fineAnswer(c *oddCase, kind string) oddAnswer {
	body, grpc := messageOf(kind), strings.HasPrefix(kind, "application/grpc")
	if c.service == 2 {
		frames := []oddFrame{headersFrame(false, ":status: 200", "content-type: "+kind), dataFrame(!grpc, body)}
		if grpc {
			frames = append(frames, headersFrame(true, "grpc-status: 0"))
		}
		return oddAnswer{frames: frames}
	}
	return oddAnswer{raw: []string{fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", kind, len(body), body)}}
}

// answer makes an answer to a request of a content type.
func (d *dice) answer(c *oddCase, kind string) oddAnswer {
	if d.in(20) && len(c.requests) == 1 && !c.requests[0].cut {
		c.leaves = true
		return oddAnswer{silent: true}
	}
	status, body := "200", messageOf(kind)
	fields := []string{"Content-Type: " + kind}
	if d.in(3) {
		status = d.pick("200", "201", "202", "204", "205", "206", "301", "304", "400", "401", "404", "409", "412", "415", "429", "499", "500", "501", "502", "503", "504", "505", "599", "418")
		switch d.IntN(4) {
		case 0:
			fields[0], body = "Content-Type: application/json", fmt.Sprintf(`{"code":%q}`, d.pick("unavailable", "internal", "aborted", "odd", "unimplemented", "resource_exhausted"))
		case 1:
			fields[0], body = "Content-Type: text/html", "<html>"
		case 2:
			body = ""
		}
		if status == "429" || d.in(10) {
			fields = append(fields, "Retry-After: "+d.pick("0", "5", "soon"))
		}
	}
	for range d.IntN(3) {
		field := answerFields[d.IntN(len(answerFields))]
		fields = append(fields, field)
	}
	if d.in(15) {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(body))
		_ = w.Close()
		body = b.String()
		fields = append(fields, "Content-Encoding: gzip")
	}
	if d.in(12) {
		body = strings.Repeat(" ", []int{100, 16 << 10, 16<<10 + 1, 40_000}[d.IntN(4)])
	}
	if c.service == 2 {
		return d.answerInFrames(kind, status, fields, body)
	}
	return d.answerInBytes(status, fields, body)
}

// answerFields are what headers of an answer may say.
var answerFields = []string{
	"X-Answer: a", "X-Answer: b", "X-Empty:", "X-Latin: caf\xe9", "Set-Cookie: a=b", "Set-Cookie: c=d", "Server: it", "Date: now", "Date: Mon, 01 Jan 2001 00:00:00 GMT", "Vary: X", "Via: 1.1 a", "Connection: X-Answer", "Connection: close", "Connection: keep-alive",
	"Keep-Alive: timeout=5, max=10", "Proxy-Authenticate: a", "Te: a", "Trailer: X-After", "Upgrade: h2c", "Holdline-Decision: forged", "Holdline-Task: forged", "Access-Control-Allow-Origin: *", "Access-Control-Expose-Headers: X", "Grpc-Status: 0", "Grpc-Status: 5",
	"Grpc-Message: odd", "Content-Type: text/plain", "Transfer-Encoding: chunked", "Content-Length: 2", "Content-Length: 0", "X-Bad: a\x00", "X Space: a", "X-Space : a", ": a", "no colon", "X-Fold: a\r\n b", "X-Lf: a\nX-More: b", "X-Long: " + strings.Repeat("a", 5000), "Accept-Encoding: gzip",
	"Retry-After: 0", "Location: /other", "Www-Authenticate: Basic", "Allow: GET", "Idempotent-Replayed: true", "Trailer-X: a", "Trailer:X-Odd: a", "X-Under_score: a",
}

// answerInBytes is the answer over HTTP/1.1.
func (d *dice) answerInBytes(status string, fields []string, body string) (a oddAnswer) {
	first := "HTTP/1.1 " + status + " " + d.pick("OK", "OK", "OK", "Odd", "", "a b")
	if d.in(15) {
		first = d.pick("HTTP/1.1 "+status, "HTTP/1.0 "+status+" OK", "HTTP/1.0 "+status+" OK", "HTTP/1.2 "+status+" OK", "HTTP/2.0 "+status+" OK", "http/1.1 "+status+" OK", "HTTP/1.1  "+status+" OK", "HTTP/1.1 2000 OK", "HTTP/1.1 20 OK", "HTTP/1.1 abc OK", "HTTP/1.1 099 OK",
			"HTTP/1.1", "ICY 200 OK", "", "HTTP/1.1\t200 OK", "HTTP/1.1 +20 OK", "HTTP/1.1 200\tOK", "HTTP/1.1 200 \x00")
	}
	end, n := "\r\n", len(body)
	switch d.IntN(12) {
	default:
		fields = append(fields, fmt.Sprint("Content-Length: ", n))
	case 0, 1:
		fields = append(fields, "Transfer-Encoding: "+d.pick("chunked", "chunked", "Chunked", "gzip", "gzip, chunked", "identity", "chunked, chunked"))
		body = d.answerChunks(body)
	case 2:
		a.end = "close"
	case 3:
		fields = append(fields, fmt.Sprint("Content-Length: ", max(0, n+d.IntN(5)-2)))
		if d.in(2) {
			a.end = "close"
		}
		body += d.pick("", "", "a", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		if strings.HasPrefix(fields[len(fields)-1], fmt.Sprint("Content-Length: ", n)) {
			a.end = d.pick("", "close")
		} else {
			a.end = "close" // else nobody knows when it is over
		}
	case 4:
		fields = append(fields, []string{
			fmt.Sprintf("Content-Length: %d\r\nContent-Length: %d", n, n), fmt.Sprintf("Content-Length: %d\r\nContent-Length: %d", n, n+1), fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked", n), fmt.Sprintf("Content-Length: +%d", n), "Content-Length: odd",
			fmt.Sprintf("Content-Length: %d, %d", n, n), "Content-Length:", "Content-Length: -1", fmt.Sprintf("Content-Length : %d", n),
		}[d.IntN(9)])
		if d.in(2) {
			body = inChunks(body)
		}
		a.end = "close"
	}
	if d.in(50) {
		end = "\n"
	}
	head := first + end + strings.Join(fields, end) + end + end
	if d.in(12) {
		for range 1 + d.IntN(3) {
			head = d.pick("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", "HTTP/1.1 103 \r\nConnection: X-Hint\r\nX-Hint: a\r\n\r\n", "HTTP/1.1 199 Odd\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 100\r\n\r\n") + head
		}
	}
	if d.in(60) {
		head = d.pick("\r\n", " ", "\x00") + head
	}
	all := head + body
	switch d.IntN(15) {
	case 0:
		all, a.end = all[:d.IntN(len(all))], "close"
	case 1:
		all, a.end = "", "reset"
	case 2:
		a.end = "close"
	}
	if a.end == "" && !wholeAnswer(all) {
		a.end = "close"
	}
	a.raw = []string{all}
	if len(all) > 1 && d.in(8) {
		at := 1 + d.IntN(len(all)-1)
		a.raw = []string{all[:at], all[at:]}
	}
	return a
}

// aStatus begins an answer that may have a body.
var aStatus = regexp.MustCompile(`^HTTP/1\.1 (20[0-3]|[45]\d\d)`)

// wholeAnswer tells whether it is clear how long an answer is. Otherwise its service has to close, since the gateway would wait.
func wholeAnswer(all string) bool {
	head, _, _ := strings.Cut(all, "\r\n\r\n")
	return aStatus.MatchString(all) && strings.Count(head, "Content-Length")+strings.Count(head, "Transfer-Encoding") == 1 && !strings.Contains(head, "odd") && !strings.Contains(head, "gzip, ")
}

func (d *dice) answerChunks(body string) string {
	size := fmt.Sprintf("%x", len(body))
	if body == "" {
		return d.pick("0\r\n\r\n", "0\r\nX-After: a\r\n\r\n", "000\r\n\r\n", "0;a\r\n\r\n")
	}
	return d.pick(inChunks(body), inChunks(body), inChunks(body), "1\r\n"+body[:1]+"\r\n"+inChunks(body[1:]), size+";a=b\r\n"+body+"\r\n0\r\n\r\n", "0000"+size+"\r\n"+body+"\r\n0\r\n\r\n", size+"\r\n"+body+"\r\n0\r\nX-After: a\r\n\r\n",
		size+"\r\n"+body+"\r\n0\r\nGrpc-Status: 5\r\nContent-Length: 5\r\nTe: a\r\n\r\n", size+"\r\n"+body+"\r\n0\r\nodd\r\n\r\n", size+" \r\n"+body+"\r\n0\r\n\r\n", size+"\n"+body+"\n0\n\n", "x\r\n\r\n", "+"+size+"\r\n"+body+"\r\n0\r\n\r\n", "0"+size+"\r\n"+body+"\r\n00000000000\r\n\r\n",
		size+"\r\n"+body+"\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "0x"+size+"\r\n"+body+"\r\n0\r\n\r\n", "_"+size+"\r\n"+body+"\r\n0\r\n\r\n")
}

// answerInFrames is the answer over HTTP/2.
func (d *dice) answerInFrames(kind, status string, fields []string, body string) (a oddAnswer) {
	pseudo := []string{":status: " + status}
	if d.in(20) {
		pseudo = [][]string{{}, {":status: 2000"}, {":status: 20"}, {":status: abc"}, {":status: 200", ":status: 200"}, {":status: 200", ":path: /"}, {":status: 101"}, {":status: 099"}, {":status: +20"}, {":status:"}}[d.IntN(10)]
	}
	all, upper := pseudo, d.in(50)
	for _, f := range fields {
		name, value, ok := strings.Cut(f, ":")
		if name == "" {
			ok = false
		}
		if !upper || d.in(2) {
			name = strings.ToLower(name)
		}
		if ok {
			all = append(all, name+":"+value)
		}
	}
	if d.in(4) {
		all = append(all, fmt.Sprint("content-length: ", len(body)))
	}
	if d.in(30) {
		all = append(all, "content-length: "+d.pick("1", "5", "odd", "-1", fmt.Sprint(len(body))))
	}
	var trailers []string
	switch {
	case strings.HasPrefix(kind, "application/grpc") && !d.in(8):
		trailers = []string{"grpc-status: " + d.pick("0", "0", "0", "0", "5", "14", "odd", "")}
	case d.in(8):
		trailers = []string{"x-after: a"}
	}
	if len(trailers) > 0 && d.in(8) {
		trailers = append(trailers, d.pick("grpc-message: odd", "te: a", "content-length: 5", "connection: close", "X-Upper: a", ":status: 200", "x-after: caf\xe9", "x-after: a\nb", "grpc-status: 0"))
	}
	if d.in(12) {
		for range 1 + d.IntN(3) {
			hint := []string{":status: " + d.pick("103", "100", "102", "199", "101"), d.pick("link: </a>", "x-hint: a", "connection: close")}
			a.frames = append(a.frames, headersFrame(d.in(20), hint...))
		}
	}
	a.frames = append(a.frames, d.asOdd(headersFrame(body == "" && trailers == nil, all...))...)
	switch {
	case body == "":
	case len(body) > 1 && d.in(4):
		for rest := body; rest != ""; {
			n := min(len(rest), 1+d.IntN(16<<10))
			a.frames = append(a.frames, dataFrame(n == len(rest) && trailers == nil, rest[:n]))
			rest = rest[n:]
		}
	default:
		for rest := body; rest != ""; {
			n := min(len(rest), 16<<10)
			a.frames = append(a.frames, dataFrame(n == len(rest) && trailers == nil, rest[:n]))
			rest = rest[n:]
		}
	}
	if trailers != nil {
		a.frames = append(a.frames, d.asOdd(headersFrame(!d.in(15), trailers...))...)
	}
	code := "\x00\x00\x00" + string(rune(d.IntN(14)))
	switch d.IntN(18) {
	case 0:
		a.frames = append(a.frames[:d.IntN(len(a.frames)+1)], oddFrame{kind: http2.FrameRSTStream, payload: code})
	case 1:
		a.frames = []oddFrame{{kind: http2.FrameRSTStream, payload: code}}
	case 2:
		last := d.pick("\x00", "\xfe", "\x02")
		a.frames = []oddFrame{{kind: http2.FrameGoAway, ofConn: true, payload: "\x00\x00\x00" + last + code}}
		a.end = "close"
	case 3:
		a.frames, a.end = a.frames[:d.IntN(len(a.frames)+1)], "close"
	case 4:
		at := d.IntN(len(a.frames) + 1)
		a.frames = slices.Insert(a.frames, at, d.pickFrame())
	case 5:
		a.frames, a.end = nil, "reset"
	}
	if !endsStream(a.frames) {
		a.end = "close"
	}
	return a
}

// endsStream tells whether the last frames of an answer end its stream.
func endsStream(frames []oddFrame) bool {
	for _, f := range frames {
		if f.flags.Has(http2.FlagDataEndStream) && (f.kind == http2.FrameData || f.kind == http2.FrameHeaders) || f.kind == http2.FrameRSTStream {
			return true
		}
	}
	return false
}
