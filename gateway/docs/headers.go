package docs

import (
	"fmt"
	"time"

	"holdline/internal/contract"
	"holdline/internal/route"
)

const timeoutHeader = "Connect-Timeout-Ms"

// headersOf are the request headers of the contract that calls of a service may
// carry.
func headersOf(service Service) []string {
	switch {
	case service.Stored:
		return []string{contract.HeaderKey, contract.HeaderPrefer, contract.HeaderTTL, contract.HeaderAnswerTTL,
			contract.HeaderMode, contract.HeaderExplain, timeoutHeader}
	case service.Proxied:
		return []string{contract.HeaderExplain, timeoutHeader}
	}
	return []string{timeoutHeader}
}

// responseHeadersOf are those of an answer.
func responseHeadersOf(service Service) []string {
	switch {
	case service.Stored:
		return []string{contract.HeaderTask, contract.HeaderReplayed, contract.HeaderApplied, contract.HeaderDecision}
	case service.Proxied:
		return []string{contract.HeaderDecision}
	}
	return nil
}

// requestHeaders are all of those.
func requestHeaders() (list object) {
	text := object{{"type", "string"}}
	for _, h := range []struct {
		name, description string
		schema            object
	}{
		{contract.HeaderKey, "The call is a task from the start, never tried directly. The same key and request find the same task, or its answer; " +
			"the same key with another request is an error. A key is a secret, as hard to guess as a UUID: who has it gets the answer.", object{{"type", "string"}, {"pattern", "^[!-~]{1,255}$"}}},
		{contract.HeaderPrefer, fmt.Sprintf("`respond-async`: stored at once, handle at once; with `, wait=N` held N seconds. `wait=N`: how many seconds to be held "+
			"when the call is stored; default %d, at most %d, 0 for not at all.", contract.DefaultHold/time.Second, contract.MaxHold/time.Second), text},
		{contract.HeaderTTL, fmt.Sprintf("How long the task may wait for its service, such as `60s`: at most %.0f h; default as its route says, %.0f min if it says nothing.",
			route.MaxTTL.Hours(), route.DefaultTTL.Minutes()), text},
		{contract.HeaderAnswerTTL, "How long the task's answer is kept, such as `1h`: at most 7 days.", text},
		{contract.HeaderMode, "`direct`: never stored; still tried again.", object{{"type", "string"}, {"enum", []string{"direct"}}}},
		{contract.HeaderExplain, "`1`: `" + contract.HeaderDecision + "` says what was done.", object{{"type", "string"}, {"enum", []string{"1", "0"}}}},
		{timeoutHeader, "The caller's deadline in milliseconds. It bounds everything.", object{{"type", "integer"}, {"minimum", 0}, {"maximum", 9999999999}}},
	} {
		list = append(list, field{h.name, object{{"name", h.name}, {"in", "header"}, {"description", h.description}, {"schema", h.schema}}})
	}
	return list
}

// responseHeaders are those of all responses.
func responseHeaders() (list object) {
	for _, h := range [][2]string{
		{contract.HeaderTask, "The task that the call is, if it is one."},
		{contract.HeaderReplayed, "`true`: an answer that was kept, found by its key."},
		{contract.HeaderApplied, "What of `Prefer` was heeded."},
		{contract.HeaderDecision, "What was done, such as `direct;try=2;dial-refused → stored;breaker=open`."},
		{"Location", "Where to ask for the task."},
		{"Retry-After", "Seconds to wait before asking again."},
		{"Cache-Control", "`no-store`"},
	} {
		list = append(list, field{h[0], object{{"description", h[1]}, {"schema", object{{"type", "string"}}}}})
	}
	return list
}
