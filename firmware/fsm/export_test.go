package fsm

import "time"

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
