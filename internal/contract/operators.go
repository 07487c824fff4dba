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

// IsOperators tells whether only operators may ask for a path: everything about queues, and the list
// of all tasks, as long as callers have no identities.
func IsOperators(path string) bool {
	return strings.HasPrefix(path, "/"+momv1connect.QueueServiceName+"/") || path == momv1connect.TaskServiceListTasksProcedure
}

// ForOperators tells whether admin listeners serve a path: all that IsOperators names, tasks, health
// and reflection. The server itself adds /metrics and /debug/pprof/.
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

// OperatorsOnly is the error for callers who ask for such a path. It says how an operator asks for it.
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

// passedOn are headers that proxies add to the requests of others, beside X-Forwarded-*.
var passedOn = [...]string{"Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip"}

// Foreign says why a request cannot come straight from an operator: a proxy has passed it on, or a
// page in an operator's browser has sent it, perhaps under a name that was made to mean this
// machine (DNS rebinding). It is empty when there is no such sign.
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

// ownHost tells whether the Host header is localhost or an address of this machine. Any other name
// could mean this machine only because DNS says so.
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
