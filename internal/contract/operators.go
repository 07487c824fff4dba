package contract

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
)

// IsOperators tells whether a path names what only operators may ask for: to steer queues, and,
// while callers have no identities, to list the tasks of everybody.
func IsOperators(path string) bool {
	return strings.HasPrefix(path, "/"+momv1connect.QueueServiceName+"/") || path == momv1connect.TaskServiceListTasksProcedure
}

// ForOperators tells whether a path is one that admin listeners serve, beside those of the
// server itself: what IsOperators, tasks, health and reflection.
func ForOperators(path string) bool {
	for _, prefix := range [...]string{
		"/" + momv1connect.QueueServiceName + "/", "/" + momv1connect.TaskServiceName + "/", "/v1/tasks/",
		"/grpc.health.v1.Health/", "/grpc.reflection.v1.ServerReflection/", "/grpc.reflection.v1alpha.ServerReflection/",
	} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// OperatorsOnly is the error for everybody else. It says how to become one.
func OperatorsOnly(path string) *connect.Error {
	command := "holdline queue list"
	if path == momv1connect.TaskServiceListTasksProcedure {
		command = "holdline task list"
	}
	return Errorf(momv1.Reason_REASON_OPERATORS_ONLY, "for operators only, who have a listener of their own: start gateway or MOM with "+
		"--admin 127.0.0.1:9464, as `holdline up` does, and run `%[1]s` on that machine, or for a container `docker exec CONTAINER /%[1]s`", command)
}

// Local tells whether a request came from this machine.
func Local(r *http.Request) bool {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && addr.Addr().Unmap().IsLoopback()
}

// passedOn are headers of those who send on the requests of others, beside X-Forwarded-*.
var passedOn = [...]string{"Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip"}

// Foreign says why a request is not what an operator sent to this server: a proxy has passed
// it on, or a page in an operator's browser has sent it, be it that its name was made to mean
// this machine (DNS rebinding). It is empty when nothing speaks against the request.
func Foreign(r *http.Request) (why string) {
	for key := range r.Header {
		if strings.HasPrefix(key, "X-Forwarded-") {
			return "it was passed on (" + key + ")"
		}
	}
	for _, key := range passedOn {
		if _, ok := r.Header[key]; ok {
			return "it was passed on (" + key + ")"
		}
	}
	if !ownHost(r) {
		return "its Host is neither localhost nor the address of this listener"
	}
	for _, origin := range r.Header["Origin"] {
		if origin != "http://"+r.Host {
			return "its Origin is another page"
		}
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return ""
	}
	return "another page has sent it (Sec-Fetch-Site)"
}

// ownHost tells whether the Host is this machine's by itself, and not by what DNS says.
func ownHost(r *http.Request) bool {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return false
	}
	ip = ip.Unmap()
	if ip.IsLoopback() {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.AddrPort().Addr().Unmap().WithZone("") == ip.WithZone("")
}
