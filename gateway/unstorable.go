package gateway

import (
	"net/http"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// notStorable is the cause of calls that are not offered to a MOM.
const notStorable = "not-storable"

// offerable prepares the headers of the offers; otherwise it answers a caller whose call no MOM
// can keep, and says so.
func (h *handOff) offerable(w http.ResponseWriter, explain func(step)) bool {
	mediaType, why := contract.NotStorable(h.req.In)
	if why != "" {
		explain(fail)
		h.refuse(w, h.call, contract.Errorf(momv1.Reason_REASON_CALL_NOT_STORABLE,
			"%s, and it cannot be stored: %s; %s", h.why(), why, h.then()), notStorable, "task", h.id)
		return false
	}
	if mediaType != "" { // without parameters that say nothing to a MOM
		h.header.Set("Content-Type", mediaType)
	}
	// The protocol has one version. Services may not look at it, and a MOM would.
	h.header.Del("Connect-Protocol-Version")
	return true
}

// why is why the call was to be stored.
func (h *handOff) why() string {
	if h.cause == nil {
		return "the call asked to be stored"
	}
	return h.target.route.Service + " cannot take the call (" + h.cause.Cause + ")"
}

// then is what a caller may do whose call is surely not stored. What ran may run twice, or it
// is the task of the key.
func (h *handOff) then() string {
	if h.ran || h.key != "" {
		return "it may be sent again"
	}
	return "it was not executed"
}

// tooManyHeaders tells whether a MOM did not take an offer for its headers.
func tooManyHeaders(last upstream.Outcome) bool {
	return last.Cause == upstream.HeadersTooLarge || last.Cause == "http-431"
}
