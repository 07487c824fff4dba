package gateway_test

import (
	"fmt"
	"net/http"
	"strings"
)

// oneOf has a request carry one of some fields.
func oneOf(fields ...string) func(*dice, *draft) {
	return func(d *dice, r *draft) { r.fields = append(r.fields, d.pick(fields...)) }
}

// twoOf adds two of them.
func twoOf(fields ...string) func(*dice, *draft) {
	return func(d *dice, r *draft) { r.fields = append(r.fields, d.pick(fields...), d.pick(fields...)) }
}

// oddFields are what headers may say.
var oddFields = []func(*dice, *draft){
	oneOf("X-Plain: a", "X-Empty:", "X-Latin: caf\xe9", "X-UTF: caf\u00e9", "X-Two: a, b", "X_Under: a", "X-Long: "+strings.Repeat("a", 3000), "X.Dot!#$%&'*+^`|~: a"),
	twoOf("X-Twice: a", "X-Twice: b", "x-twice: c", "X-Twice:"),
	oneOf("Cookie: a=b", "Cookie: a=b; c=d", "Cookie: ", "Cookie: a=b;c=d;", "Cookie: a"),
	twoOf("Cookie: a=b", "Cookie: c=d; e=f"),
	oneOf("Connection: close", "Connection: keep-alive", "Connection: Keep-Alive, X-Hop", "Connection: X-Plain", "Connection: te", "Connection: close, keep-alive", "Connection: Content-Type", "Connection: upgrade", "Connection:", "Connection: Host"),
	twoOf("Connection: close", "Connection: keep-alive", "Connection: X-Plain", "X-Hop: a"),
	oneOf("Keep-Alive: timeout=5", "Proxy-Connection: close", "Proxy-Authorization: Basic a", "Proxy-Authenticate: a", "Te: trailers", "Te: gzip", "Te: gzip, trailers;q=0.5", "TE: Trailers", "Trailer: X-After", "Trailer: Content-Length"),
	oneOf("Upgrade: h2c", "Upgrade: websocket", "Http2-Settings: AAMAAABkAAQAAP__", "Upgrade: HTTP/3"),
	oneOf("Expect: 100-continue", "Expect: 100-Continue", "Expect: 200-ok", "Expect: ", "Expect: 100-continue, other"),
	oneOf("Idempotency-Key: \"a\"", "Idempotency-Key: a", "Idempotency-Key: ", "Idempotency-Key: a b", "X-Idempotency-Key: a", "Idempotency-Key: "+strings.Repeat("k", 300)),
	oneOf("Prefer: respond-async", "Prefer: wait=1", "Prefer: respond-async, wait=1", "Prefer: return=minimal", "Prefer: wait=soon"),
	oneOf("Connect-Timeout-Ms: 10000", "Connect-Timeout-Ms: 60000", "Connect-Timeout-Ms: soon", "Connect-Timeout-Ms: 0", "Connect-Timeout-Ms: -1", "Connect-Timeout-Ms: 99999999999", "Connect-Timeout-Ms:", "Connect-Timeout-Ms: 1.5", "Connect-Timeout-Ms: +5"),
	oneOf("Grpc-Timeout: 20S", "Grpc-Timeout: 1M", "Grpc-Timeout: 60000m", "Grpc-Timeout: 0S", "Grpc-Timeout: soon", "Grpc-Timeout: 999999999S", "Grpc-Timeout: 5", "Grpc-Timeout: -1S", "Grpc-Timeout: 20s"),
	twoOf("Connect-Timeout-Ms: 10000", "Grpc-Timeout: 20S"),
	oneOf("Connect-Protocol-Version: 1", "Connect-Protocol-Version: 2", "Grpc-Encoding: gzip", "Grpc-Accept-Encoding: gzip, identity", "Content-Encoding: identity", "Content-Encoding: gzip", "Connect-Content-Encoding: gzip", "Accept-Encoding: gzip, br", "Accept-Encoding: ", "X-Grpc-Web: 1"),
	oneOf("Holdline-Mode: direct", "Holdline-Mode: odd", "Holdline-Ttl: 1m", "Holdline-Ttl: soon", "Holdline-Caller: forged", "Holdline-Task: forged", "Holdline-Secret: a", "Holdline-Operator: a", "holdline-explain: 0", "Holdline-Explain: odd", "Holdline-Answer-Ttl: 1h"),
	oneOf("Origin: https://app.example", "Origin: https://evil.example", "Origin: null", "Origin: ", "Access-Control-Request-Method: POST"),
	oneOf("User-Agent: me/1", "User-Agent: ", "Date: Mon, 01 Jan 2001 00:00:00 GMT", "Via: 1.1 a", "X-Forwarded-For: 1.2.3.4", "Forwarded: for=1.2.3.4", "Range: bytes=0-1", "If-Match: \"a\"", "Authorization: Bearer a", "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Pragma: no-cache", "Accept: */*"),
	oneOf("Host: other.example", "Host: gateway.example", "Host:", "Host: a b", "Host: a/b", "Host: user@a", "Host: [::1]:80", "Host: a:b:c", "Host: caf\xe9"),
	oneOf("X-Nul: a\x00b", "X-Cr: a\rb", "X-Lf: a\n b", "X-Del: a\x7f", "X-Bel: a\x07b", "X Space: a", "X-Space : a", "X\x00: a", "X-\xe9: a", ": empty", "no colon", "X-Paren(): a", "\tX-Tab: a", " X-Lead: a", "X-Fold: a\r\n b", "X-Fold: a\r\n\tTransfer-Encoding: chunked"),
	func(d *dice, r *draft) { // another content type, or none, or two
		switch n := d.IntN(3); {
		case len(r.fields) == 0:
		case n == 0:
			r.fields[0] = "Content-Type: " + d.pick("application/json; charset=utf-8", "APPLICATION/JSON", "application/json ;q=1", "text/plain", "", "application/grpc+json", "application/grpc-web-text", "application/xml", "application/connect+proto", "odd")
		case n == 1:
			r.fields = r.fields[1:]
		default:
			r.fields = append(r.fields, "Content-Type: "+d.pick(contentTypes...))
		}
	},
}

// oddities are what else may be odd about a request.
var oddities = []func(*dice, *draft){
	func(d *dice, r *draft) { // the method
		r.method = d.pick("GET", "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "post", "TRACE", "CONNECT", "PRI", "X-ODD", "P\xd6ST", "PO ST", "")
		if d.in(2) {
			r.body = ""
		}
		if r.method == http.MethodGet && d.in(2) {
			r.path += "?connect=v1&encoding=json&message=%7B%7D"
		}
		if r.method == http.MethodOptions {
			r.fields = append(r.fields, "Origin: https://app.example", "Access-Control-Request-Method: POST")
		}
	},
	func(d *dice, r *draft) { // the path
		at := strings.LastIndex(r.path, "/")
		if at <= 0 {
			return // it is odd already
		}
		service := r.path[:at]
		r.path = d.pick(service+"/Watch", service+"/Watch", service+"/None", service+"/", service, service+"/Get/", service+"//Get", "/"+service+"/Get", service+"/%47et", service+"/Get?a=b",
			service+"/Get?", service+"/Get#a", service+"/G%zzet", service+"/G et", service+"/G\xe9t", service+"/../"+service[1:]+"/Get", "http://other.example"+service+"/Get", "https://other.example"+service+"/Get",
			"HTTP://gateway.example"+service+"/Get", "http:"+service+"/Get", "http://"+service[1:], "*", "", "/", "/none.v1.NoneService/Get", "/grpc.health.v1.Health/Check", "/docs", "/openapi.yaml", "/v1/tasks/a", "/gateway.v1.DirectoryService/ListServices",
			"other.example:443", service[1:]+"/Get", service+"/Get\x7f", "/\\"+service+"/Get", service+"/Get;a=b", service+"%2FGet")
	},
	func(d *dice, r *draft) { // the version, or the pseudo headers
		r.version = d.pick("HTTP/1.0", "HTTP/1.0", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.1 ", "HTTP/1", "HTTP/1.10", "", "HTTP/01.1", "HTTPS/1.1", " HTTP/1.1")
		if r.version == "HTTP/1.0" && d.in(2) {
			r.fields = append(r.fields, "Connection: keep-alive")
		}
		usual := []string{":method: POST", ":scheme: http", ":authority: gateway.example", ":path: " + r.path}
		switch n := d.IntN(4); d.IntN(7) {
		case 0:
			r.pseudo = append(usual[:n:n], usual[n+1:]...)
		case 1:
			r.pseudo = append(usual, usual[n])
		case 2:
			r.pseudo = append(usual, d.pick(":odd: a", ":status: 200", ":protocol: websocket", ":path: /other", ":: a"))
		case 3:
			d.Shuffle(len(usual), func(i, j int) { usual[i], usual[j] = usual[j], usual[i] })
			r.pseudo = usual
		case 4:
			usual[1] = ":scheme: " + d.pick("https", "ftp", "", "HTTP")
			r.pseudo = usual
		case 5:
			usual[2] = ":authority: " + d.pick("", "a b", "user@a", "a/b", "a:80", "caf\xe9")
			r.pseudo = usual
		default:
			r.pseudo = append(usual, "host: "+d.pick("gateway.example", "other.example", ""))
		}
	},
	func(d *dice, r *draft) { // how long the body is
		n := len(r.body)
		r.framing = [][]string{
			{fmt.Sprint("Content-Length: ", n), fmt.Sprint("Content-Length: ", n)},
			{fmt.Sprint("Content-Length: ", n), fmt.Sprint("Content-Length: ", n+1)},
			{fmt.Sprint("Content-Length: ", n), "Transfer-Encoding: chunked"},
			{"Transfer-Encoding: chunked", fmt.Sprint("Content-Length: ", n)},
			{fmt.Sprintf("Content-Length: %d, %d", n, n)}, {fmt.Sprint("Content-Length: +", n)}, {fmt.Sprint("Content-Length: 0", n)}, {fmt.Sprint("Content-Length: -", n)},
			{"Content-Length:"}, {"Content-Length: 0x2"}, {"Content-Length: 99999999999999999999"}, {fmt.Sprintf("Content-Length: %d ", n)}, {fmt.Sprintf("Content-Length : %d", n)},
			{"Transfer-Encoding: gzip"}, {"Transfer-Encoding: gzip, chunked"}, {"Transfer-Encoding: chunked, chunked"}, {"Transfer-Encoding: identity"}, {"Transfer-Encoding: xchunked"},
			{"Transfer-Encoding: chunked", "Transfer-Encoding: chunked"}, {"Transfer-Encoding: chunked", "Transfer-Encoding: identity"}, {"Transfer-Encoding:"}, {"Transfer-Encoding : chunked"}, {"Transfer-Encoding: \"chunked\""},
			{"Transfer-Encoding: Chunked"}, {"Transfer-Encoding:\tchunked"}, {"Transfer-Encoding: chunked;a=b"}, {"Transfer_Encoding: chunked"}, {"Transfer-Encoding\x00: chunked"}, {"Transfer-Encoding: chunked\x0b"},
			{fmt.Sprint("Content-Length: ", n), "Transfer-Encoding: identity"}, {fmt.Sprint("Content-Length: ", n), "Transfer-Encoding: gzip"}, {},
		}[d.IntN(32)]
		if d.in(2) {
			r.chunked = inChunks(r.body)
		}
	},
	func(d *dice, r *draft) { // chunks
		b := r.body
		if b == "" {
			b = "{}"
			r.body = b
		}
		n, size := len(b), fmt.Sprintf("%x", len(b))
		r.chunked = d.pick(inChunks(b), inChunks(b), "1\r\n"+b[:1]+"\r\n"+fmt.Sprintf("%x", n-1)+"\r\n"+b[1:]+"\r\n0\r\n\r\n", size+";a=b\r\n"+b+"\r\n0;c\r\n\r\n", size+" ; a=\"b\"\r\n"+b+"\r\n0\r\n\r\n", "0"+size+"\r\n"+b+"\r\n00\r\n\r\n",
			size+"\r\n"+b+"\r\n0\r\nX-After: a\r\n\r\n", size+"\r\n"+b+"\r\n0\r\nX-After: a\r\nContent-Length: 5\r\nHost: b\r\n\r\n", size+"\r\n"+b+"\r\n0\r\nodd\r\n\r\n", size+"\r\n"+b+"\r\n0\r\n", size+"\r\n"+b+"\r\n", size+"\r\n"+b+"0\r\n\r\n",
			size+"\n"+b+"\n0\n\n", "x\r\n"+b+"\r\n0\r\n\r\n", "-1\r\n"+b+"\r\n0\r\n\r\n", "0x"+size+"\r\n"+b+"\r\n0\r\n\r\n", " "+size+"\r\n"+b+"\r\n0\r\n\r\n", size+" \r\n"+b+"\r\n0\r\n\r\n", "fffffffffffffffff\r\n"+b, strings.ToUpper(size)+"\r\n"+b+"\r\n0\r\n\r\n",
			size+"\r\n"+b+"\r\n0\r\n\r\nGET /"+" HTTP/1.1\r\nHost: smuggled\r\n\r\n", size+"\r\n"+b+"XX0\r\n\r\n", size+";"+strings.Repeat("a", 5000)+"\r\n"+b+"\r\n0\r\n\r\n")
		if d.in(3) {
			r.fields = append(r.fields, "Trailer: X-After")
		}
		r.trailers = [][]string{nil, {"x-after: a"}, {"grpc-status: 0"}, {"X-After: a"}, {":path: /a"}, {"te: trailers"}, {"content-length: 5"}, {"x-after: a\nb"}, {"connection: close"}}[d.IntN(9)]
	},
	func(d *dice, r *draft) { // more than was said, or less
		r.framing = []string{fmt.Sprint("Content-Length: ", max(0, len(r.body)+d.IntN(5)-2))}
		if d.in(3) {
			r.after = d.pick("a", "\r\n", "\r\n\r\n", "GET / HTTP/1.1\r\nHost: smuggled\r\n\r\n", "\x00")
		}
	},
	func(d *dice, r *draft) { r.end = d.pick("\n", "\r\n", "\r\n", "\r") },
	func(d *dice, r *draft) { // a large one
		n := []int{100, 16 << 10, 16<<10 + 1, 40_000}[d.IntN(4)]
		r.body = strings.Repeat(" ", n)
	},
	func(d *dice, r *draft) {
		r.host = d.pick("", "other.example", "gateway.example:80", "a b", "user@a", "a/b", "[::1]", "caf\xe9", "a..b", "-")
	},
	func(d *dice, r *draft) {
		r.body = d.pick("", "{", "null", "\x00", "{\"a\":1}", "\x00\x00\x00\x00\x05{}", "[]")
	},
	func(d *dice, r *draft) { // many headers, or large ones
		for i := range 1 + d.IntN(120) {
			r.fields = append(r.fields, fmt.Sprintf("X-Many-%d: %s", i, strings.Repeat("a", d.IntN(700))))
		}
	},
}

func inChunks(body string) string {
	if body == "" {
		return "0\r\n\r\n"
	}
	return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
}
