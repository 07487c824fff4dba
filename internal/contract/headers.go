package contract

import (
	"fmt"
	"strings"
	"time"
)

// The names of the headers, in the spelling of net/http. gRPC carries them as metadata of the
// same name in lower case. What they mean stands in Headers.
const (
	HeaderKey       = "Idempotency-Key"
	HeaderPrefer    = "Prefer"
	HeaderTTL       = "Holdline-Ttl"
	HeaderAnswerTTL = "Holdline-Answer-Ttl"
	HeaderMode      = "Holdline-Mode"
	HeaderExplain   = "Holdline-Explain"

	HeaderTask     = "Holdline-Task"
	HeaderReplayed = "Idempotent-Replayed"
	HeaderApplied  = "Preference-Applied"
	HeaderDecision = "Holdline-Decision"

	HeaderCaller   = "Holdline-Caller"
	HeaderCause    = "Holdline-Cause"
	HeaderOffer    = "Holdline-Offer"
	HeaderHTTP     = "Holdline-Http"
	HeaderSchema   = "Holdline-Schema"
	HeaderKept     = "Holdline-Kept"
	HeaderSecret   = "Holdline-Secret"
	HeaderOperator = "Holdline-Operator"

	HeaderExpires = "Holdline-Expires"
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

// Sender is who may send a header. A gateway removes a Holdline-* header from a call unless callers may send it.
type Sender int

// The senders. Callers get what Holdline sends; gateways and MOMs speak to each other.
const (
	FromCaller Sender = iota + 1
	FromHoldline
	FromGateway
	FromMOM
)

// Header is what the contract says of one header. A service that is tried directly gets the
// headers that the caller sent. In a replay it gets none of them, but the task's id as HeaderKey.
type Header struct {
	Name string
	From Sender
	// Unstored tells that the header has a meaning also for calls that cannot be stored.
	Unstored bool
	// Doc says in Markdown what the header is for. OpenAPI and docs/reference.md show it.
	Doc string
	// Pattern or Values say which values are valid. Without both, every text is.
	Pattern string
	Values  []string

	// ask returns an Asks with the value, and whether the value is valid. want describes valid values in errors.
	// Only the headers that AsksOf reads have them.
	ask  func(a Asks, value string) (Asks, bool)
	want string
}

// Headers is the one table of the headers of the contract.
var Headers = []Header{
	{
		Name: HeaderKey, From: FromCaller, Pattern: "^[!-~]{1,255}$",
		Doc: "Makes the call a task from the start: it is stored first, and never tried directly. The same key with the same request finds the same task, or its answer. " +
			"The same key with another request of the method is an error; each method has keys of its own. A key is a secret, as hard to guess as a UUID: whoever has it gets the answer.",
	},
	{
		Name: HeaderPrefer, From: FromCaller, // RFC 7240
		Doc: fmt.Sprintf("`respond-async`: the call is stored at once, and its caller gets a handle at once. With `respond-async, wait=N` its caller is held for N seconds first. "+
			"`wait=N`: for how many seconds the caller is held when the call is stored. Default %d, at most %d, 0 for not at all.", DefaultHold/time.Second, MaxHold/time.Second),
	},
	{
		Name: HeaderTTL, From: FromCaller,
		Doc: fmt.Sprintf("How long the task may wait for its service, such as `60s`. At most %.0f h. Default: what the route says, or %.0f min.",
			MaxTTL.Hours(), DefaultTTL.Minutes()),
		ask: func(a Asks, value string) (_ Asks, ok bool) { a.TTL, ok = duration(value); return a, ok }, want: aDuration,
	},
	{
		Name: HeaderAnswerTTL, From: FromCaller,
		Doc: fmt.Sprintf("How long the task's answer is kept, such as `1h`. At most %.0f days. Default: what the MOM's `--answer-ttl` says.", MaxAnswerTTL.Hours()/24),
		ask: func(a Asks, value string) (_ Asks, ok bool) { a.AnswerTTL, ok = duration(value); return a, ok }, want: aDuration,
	},
	{
		Name: HeaderMode, From: FromCaller, Values: []string{modeDirect},
		Doc: "`direct`: the call is never stored. It is still tried again.",
		ask: func(a Asks, value string) (Asks, bool) {
			a.Direct = strings.EqualFold(value, modeDirect)
			return a, a.Direct
		}, want: modeDirect,
	},
	{
		Name: HeaderExplain, From: FromCaller, Unstored: true, Values: []string{"1", "0"},
		Doc: "`1`: the response says in `" + HeaderDecision + "` what was done with the call.",
		ask: func(a Asks, value string) (Asks, bool) { a.Explain = value == "1"; return a, a.Explain || value == "0" }, want: "1 or 0",
	},

	{Name: HeaderTask, From: FromHoldline, Doc: "The id of the task, if the call is one."},
	{Name: HeaderReplayed, From: FromHoldline, Doc: "`true`: this answer was kept, and was found by its key."},
	{Name: HeaderApplied, From: FromHoldline, Doc: "The preferences of `Prefer` that were followed."},
	{
		Name: HeaderDecision, From: FromHoldline, Unstored: true,
		Doc: "What was done with the call, such as `direct;try=2;dial-refused → stored;breaker=open`.",
	},

	// With a hand-off, besides HeaderTask.
	{Name: HeaderCaller, From: FromGateway, Doc: "Whose task it is."},
	{Name: HeaderCause, From: FromGateway, Doc: "Why the service could not take the call."},
	{Name: HeaderOffer, From: FromGateway, Doc: "How often the gateway has offered this call, this time included."},
	{
		Name: HeaderHTTP, From: FromGateway, Values: []string{"1", "2"},
		Doc: "The version of HTTP that the caller speaks, in which the MOM replays the call. Default: that of the hand-off.",
	},
	{
		Name: HeaderSchema, From: FromGateway, // for the last release alone
		Doc: "With a call in JSON: the digest of the service's schema as the gateway knows it. The last release kept of such a call what its own schema knows.",
	},
	{
		Name: HeaderKept, From: FromGateway, // from the last release alone
		Doc: "The caller gets the task's handle, whatever becomes of this offer.",
	},
	// With every request of a gateway that has a secret, and with what came to its admin listener.
	{Name: HeaderSecret, From: FromGateway, Doc: "What gateways show a MOM. No service gets it, and nothing keeps it."},
	{Name: HeaderOperator, From: FromGateway, Doc: "The operator's address."},

	// With a 103, besides HeaderTask.
	{Name: HeaderExpires, From: FromMOM, Doc: "When the task expires, as RFC 3339 has it."},
	// With an error. One that has none of these, nor HeaderTask, is said of the MOM itself, and no caller gets it.
	{Name: HeaderUnsure, From: FromMOM, Doc: "The call may be stored."},
	{Name: HeaderRefused, From: FromMOM, Doc: "The call is not stored, for what it is (`call`) or for now (`now`). The error is for the caller."},
	{
		Name: HeaderShards, From: FromMOM,
		Doc: "With `Holdline-Refused: now`: the task's id is not in the shard where the task belongs. It is the number of shards, by which the same ULID finds it.",
	},
}

// senders finds a header's sender by its name.
var senders = func() map[string]Sender {
	senders := make(map[string]Sender, len(Headers))
	for _, h := range Headers {
		senders[h.Name] = h.From
	}
	return senders
}()

// Prefix begins the names of Holdline's own headers.
const Prefix = "Holdline-"

// IsOwn tells whether a header is Holdline's by its prefix. Names that have no line in Headers may be
// used by later releases.
func IsOwn(name string) bool { return strings.HasPrefix(name, Prefix) }

// SentBy tells whether the contract has a header of this name from such a sender.
func SentBy(from Sender, name string) bool { return senders[name] == from }
