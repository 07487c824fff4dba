package gateway

import (
	"net/http"
	"testing"

	"holdline/internal/upstream"
)

// What the metrics call the end of a call, by its verdict and by who ended the response.
func TestEndOfAResponse(t *testing.T) {
	t.Parallel()
	head := func(status int, header, trailer string) *upstream.Response {
		res := &upstream.Response{Response: &http.Response{StatusCode: status, Header: http.Header{}, Trailer: http.Header{}}}
		if header != "" {
			res.Header.Set("Grpc-Status", header)
		}
		if trailer != "" {
			res.Trailer.Set("Grpc-Status", trailer)
		}
		return res
	}
	ok := head(http.StatusOK, "", "")
	for _, c := range []struct {
		verdict verdict
		want    [4]end // by whom: byNobody, byService, byCaller, byDeadline
	}{
		{verdict{end: endLeft, decided: decidedPass, res: ok}, [...]end{endOK, endBroken, endLeft, endFailed}},
		{verdict{end: endLeft, decided: decidedPass, res: head(http.StatusNotFound, "", "")}, [...]end{endError, endBroken, endLeft, endFailed}},
		{verdict{end: endLeft, decided: decidedPass, res: head(http.StatusOK, "5", "")}, [...]end{endError, endBroken, endLeft, endFailed}},
		{verdict{end: endLeft, decided: decidedPass, res: head(http.StatusOK, "", "5")}, [...]end{endError, endBroken, endLeft, endFailed}},
		{verdict{end: endLeft, decided: decidedPass, res: head(http.StatusOK, "", "0")}, [...]end{endOK, endBroken, endLeft, endFailed}},
		{verdict{end: endStored, decided: decidedStore, res: ok}, [...]end{endStored, endBroken, endStored, endFailed}},
		{verdict{end: endFailed, decided: decidedFail, res: ok}, [...]end{endFailed, endBroken, endFailed, endFailed}},
	} {
		for i, by := range []ender{byNobody, byService, byCaller, byDeadline} {
			if got := c.verdict.endBy(by, endOf(c.verdict.res.Response)); got != c.want[i] {
				t.Errorf("%s, HTTP %d, ended by %d: %s, want %s", c.verdict.decided, c.verdict.res.StatusCode, by, got, c.want[i])
			}
		}
	}
}
