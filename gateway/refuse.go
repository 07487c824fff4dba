package gateway

import (
	"log/slog"
	"net/http"

	"connectrpc.com/connect/v2"

	"holdline/internal/contract"
)

// notice logs an error of the gateway's own where an operator should know of it: the same
// thing once per interval. The cause is that of the last attempt, or empty.
func (p *proxy) notice(err *connect.Error, service, cause string, attrs ...any) {
	if n, ok := contract.NoticeOf(err, service); ok {
		if cause != "" {
			attrs = append([]any{"cause", cause}, attrs...)
		}
		attrs = append([]any{"reason", n.Reason, "service", service}, attrs...)
		p.once.Log(n.Level, n.Key+" "+cause, n.Message, append(attrs, "error", err.Message())...)
	}
}

// operatorsOnly refuses somebody who is no operator.
func (p *proxy) operatorsOnly(w http.ResponseWriter, r *http.Request) {
	p.once.Log(slog.LevelInfo, "operators", "a caller was refused what is for operators, who have the admin listener",
		"procedure", r.URL.Path, "peer", r.RemoteAddr)
	contract.WriteError(w, r, contract.OperatorsOnly(r.URL.Path))
}
