package server

import (
	"log/slog"
	"net/http"
	"net/http/pprof"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/logonce"
)

// adminHandler serves operators: the metrics, /debug/pprof/, and cfg.Operators. Whoever can reach the
// listener counts as an operator. Requests that somebody else may have sent, through a proxy or through an
// operator's browser, are therefore refused.
func adminHandler(cfg Config) http.Handler {
	mux := metricsHandler(cfg)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if !contract.ForOperators(r.URL.Path) {
			contract.WriteError(w, r, contract.Errorf(momv1.Reason_REASON_NO_ROUTE, "this is the admin listener: calls have another address"))
			return
		}
		cfg.Operators.ServeHTTP(w, r)
	})
	once := logonce.New(cfg.Logger)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if why := contract.Foreign(r); why != "" {
			once.Log(slog.LevelWarn, "foreign "+why, "the admin listener refused a request", "why", why, "path", r.URL.Path, "host", r.Host, "peer", r.RemoteAddr)
			contract.WriteError(w, r, connect.Errorf(connect.CodePermissionDenied,
				"the admin listener is for operators who speak to it themselves, at localhost or at its own address: refused, since %s", why))
			return
		}
		mux.ServeHTTP(w, r)
	})
}
