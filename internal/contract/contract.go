// Package contract is what gateway and MOM say to callers and to each other:
// header names, reasons with their codes and HTTP statuses, and task ids.
// Nothing in it does I/O.
package contract

// Headers of the contract. gRPC carries them as metadata of the same name in
// lower case.
const (
	// What callers ask for.
	HeaderKey       = "Idempotency-Key"
	HeaderPrefer    = "Prefer" // RFC 7240: respond-async, wait=N
	HeaderTTL       = "Holdline-Ttl"
	HeaderAnswerTTL = "Holdline-Answer-Ttl"
	HeaderMode      = "Holdline-Mode"
	HeaderExplain   = "Holdline-Explain"

	// What callers get.
	HeaderTask     = "Holdline-Task"
	HeaderDecision = "Holdline-Decision"
	HeaderApplied  = "Preference-Applied"
	HeaderReplayed = "Idempotent-Replayed"

	// What the gateway tells the MOM with a hand-off, besides HeaderTask.
	// Kept: the caller gets the task's handle, whatever becomes of this offer.
	HeaderCaller = "Holdline-Caller"
	HeaderCause  = "Holdline-Cause"
	HeaderKept   = "Holdline-Kept"

	// What the MOM tells the gateway with an error, and nobody else: the call may
	// be stored.
	HeaderUnsure = "Holdline-Unsure"
)

// Anonymous is the caller of every call while callers have no identities.
const Anonymous = "anonymous"
