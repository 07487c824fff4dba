package gateway

import (
	"log/slog"
	"net/http"

	"connectrpc.com/connect/v2"

	"holdline/internal/contract"
)

// refuse answers with an error of the gateway's own, and logs it where an operator
// should know: the same thing once per interval. The cause is that of the last
// attempt, or empty.
func (p *proxy) refuse(w http.ResponseWriter, c *call, err *connect.Error, cause string, attrs ...any) {
	p.notice(err, c.target.route.Service, cause, append(attrs, "procedure", c.req.In.URL.Path)...)
	contract.WriteError(w, c.req.In, err)
}

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
