package gateway

import (
	"fmt"
	"net/http"
	"strings"

	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// explain says what becomes of a call: in the metrics, and to callers who ask for
// it in the Holdline-Decision header, such as "direct;try=2;dial-refused →
// stored;breaker=open". tries is nil for a call that was never tried directly.
func (p *proxy) explain(w http.ResponseWriter, c *call, tries *tries, outcome upstream.Outcome, end step) {
	switch end {
	case store:
		c.outcome = callStored
	case fail:
		c.outcome = callFailed
	}
	if !c.asks.Explain {
		return
	}
	var text strings.Builder
	if tries != nil {
		_, _ = fmt.Fprintf(&text, "direct;try=%d", tries.made)
		if outcome.Cause != "" {
			text.WriteString(";" + outcome.Cause)
		}
		text.WriteString(" → ")
	}
	switch end {
	case pass:
		text.WriteString("passed")
	case store:
		text.WriteString("stored")
	default:
		text.WriteString("failed")
	}
	if c.target.breaker.open() {
		text.WriteString(";breaker=open")
	}
	w.Header().Set(contract.HeaderDecision, text.String())
}
