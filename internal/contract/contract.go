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
	// Offer: how often it has offered this call, this time included. Schema, which only the
	// last release reads: a digest of the service's schema as the gateway knows it, with a
	// call in JSON, of which that release would keep what its own schema knows. Kept, which
	// only the last release sends: the caller gets the task's handle, whatever
	// becomes of this offer.
	HeaderCaller = "Holdline-Caller"
	HeaderCause  = "Holdline-Cause"
	HeaderOffer  = "Holdline-Offer"
	HeaderSchema = "Holdline-Schema"
	HeaderKept   = "Holdline-Kept"

	// What gateways show a MOM with everything, if they have a secret. No caller's passes,
	// no service gets it, and nothing keeps it.
	HeaderSecret = "Holdline-Secret"

	// What a gateway tells the MOM with what came to the admin listener: the operator's
	// address.
	HeaderOperator = "Holdline-Operator"

	// What the MOM tells the gateway with a 103, besides HeaderTask: when the task
	// expires, as RFC 3339 has it.
	HeaderExpires = "Holdline-Expires"

	// What the MOM tells the gateway with an error, and nobody else. What has
	// neither of them nor HeaderTask is said of the MOM itself, and no caller gets it.
	// Unsure: the call may be stored. Refused: it is not, for what it is
	// (RefusedCall) or for now (RefusedNow); the error is the caller's. Shards goes
	// with RefusedNow: the id that the gateway has minted is not in the shard where
	// the task belongs. It is the number of shards, by which the same ULID finds it.
	HeaderUnsure  = "Holdline-Unsure"
	HeaderRefused = "Holdline-Refused"
	HeaderShards  = "Holdline-Shards"
)

// Values of HeaderRefused. RefusedSecret says that the MOM takes nothing from whoever asks,
// since it does not show the MOM's secret: no caller gets that error.
const (
	RefusedCall   = "call"
	RefusedNow    = "now"
	RefusedSecret = "secret"
)

// Anonymous is the caller of every call while callers have no identities.
const Anonymous = "anonymous"
