package fsm

import (
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/otago-iot/otago/internal/record"
)

// form numbers the way in which the memory of an update is stored. A change that an older record
// does not fit needs the next number. A new field needs none, and a new word is a new last word of
// its list.
const form = 4

var memoryCodec = record.Of[memory]()

func init() {
	record.Enum(PhaseWaiting, PhasePreparing, PhaseTransferring, PhaseTransferred, PhaseExecuting, PhaseRestarting,
		PhaseVerifying, PhaseEnded)
	record.Enum(OutcomeSucceeded, OutcomeRolledBack, OutcomeFailed, OutcomeCancelled, OutcomeTimedOut)
	record.Enum(DeliveryPush, DeliveryPull)
	record.Enum(ProtocolCoAP, ProtocolCoAPS, ProtocolHTTP, ProtocolHTTPS, ProtocolCoAPTCP, ProtocolCoAPSTCP)
	record.Common(VerifyVersion, VerifyResult)
	record.Common(ResetNUL, ResetNone)
	record.Common(WhoseDevice, WhoseOperator, WhoseServer)
	record.Common(MayStillNone, MayStillInstall, MayStillUnknown)
	record.Common(ActionRead, ActionObserve, ActionReset, ActionWriteURI, ActionPush, ActionExecute, ActionCancel)
	record.Common(ReasonVersion, ReasonResult, ReasonSameVersion, ReasonAlreadyRunning, ReasonOldVersion, ReasonVersionMismatch,
		ReasonDeviceResult, ReasonAttempts, ReasonRefused, ReasonNoDelivery, ReasonNoObject, ReasonBadState, ReasonCannotProve,
		ReasonImage, ReasonNotServed, ReasonOperator, ReasonPhaseLimit, ReasonDeadline,
		ReasonIncompatible)
}

// AppendBinary appends the memory as stores keep it: the number of the form, and a record of the
// fields that are not zero. It implements encoding.BinaryAppender.
func (m *memory) AppendBinary(b []byte) ([]byte, error) {
	return memoryCodec.Append(append(b, form), m)
}

// UnmarshalBinary refuses a memory of another form. It implements encoding.BinaryUnmarshaler.
func (m *memory) UnmarshalBinary(data []byte) error {
	switch {
	case len(data) == 0:
		return errors.New("fsm: the stored update has no form")
	case data[0] != form:
		return fmt.Errorf("fsm: the stored update has form %d, and this version reads form %d", data[0], form)
	}
	return memoryCodec.Decode(data[1:], m)
}

// MarshalText returns the memory in base 64, so that an update in JSON is whole.
func (m memory) MarshalText() ([]byte, error) {
	data, err := m.AppendBinary(nil)
	return []byte(base64.StdEncoding.EncodeToString(data)), err
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *memory) UnmarshalText(text []byte) error {
	data, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		return err
	}
	return m.UnmarshalBinary(data)
}
