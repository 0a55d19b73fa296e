package fsm

import (
	"time"

	"github.com/otago-iot/otago/internal/record"
)

var updateCodec = record.Of[Update]()

// Stored returns the update as a store keeps it.
func (u Update) Stored() ([]byte, error) { return updateCodec.Append(nil, &u) }

// Loaded returns the update that Stored made data of.
func Loaded(data []byte) (u Update, err error) {
	err = updateCodec.Decode(data, &u)
	return u, err
}

// The codes that only the machines use.
const (
	CodeContinue           = codeContinue
	CodeInternalError      = codeInternalError
	CodeNotImplemented     = codeNotImplemented
	CodeServiceUnavailable = codeServiceUnavailable
	CodeTooLarge           = codeTooLarge
	CodeUnsupportedFormat  = codeUnsupportedFormat
)

// DowntimeCounts is how much of a time without a server counts against the deadline.
const DowntimeCounts = downtimeCounts

// Phases and Outcomes list all values.
var (
	Phases   = phases
	Outcomes = outcomes
)

// Refused returns the field of a Read that was answered with an error.
func Refused[T any](code Code) Field[T] { return Field[T]{Code: code} }

// Known reports whether the registry defines the State.
func (s State) Known() bool { return s.known() }

// Text says who holds the update, why and until when.
func (h Hold) Text() string { return h.text() }

// RetryAt is when the next attempt may begin.
func (u Update) RetryAt() time.Time { return u.Memory.Attempt.RetryAt }

// Resumed is when the server restarted, if it has read nothing since.
func (u Update) Resumed() time.Time { return u.Memory.Clock.Resumed }

// Allows is allows.
func (m DeliverySupport) Allows(d DeliveryMode) bool { return m.allows(d) }
