package fsm

// ActionKind says what to do with the device.
type ActionKind string

// The actions. The shell reports the end of each with [ObserveDone].
const (
	// ActionNone: nothing to do; the machine waits, until [Update.Wake] at the latest.
	ActionNone ActionKind = ""
	// ActionRead reads Action.Resources.
	ActionRead ActionKind = "read"
	// ActionObserve observes 5/0/3. The answer shows the State, as a Read of it does. A device that
	// refuses is polled.
	ActionObserve ActionKind = "observe"
	// ActionReset brings the device back to Idle in the way that Action.Reset says.
	ActionReset ActionKind = "reset"
	// ActionWriteURI writes a Package URI of Action.Protocol into 5/0/1.
	ActionWriteURI ActionKind = "write_uri"
	// ActionPush writes the package into 5/0/0. [ObserveProgress] reports how far it is.
	ActionPush ActionKind = "push"
	// ActionExecute executes 5/0/2.
	ActionExecute ActionKind = "execute"
	// ActionCancel asks the device to drop the package after the server has ended the update:
	// Execute 5/0/10 and, if the device refuses that and Action.Reset is ResetEmptyURI, an empty
	// 5/0/1. It then reads 5/0/3 and 3/0/3 and reports them in Observation.Reading. The shell tries
	// it once, and not at all if another update of the device has begun to write.
	ActionCancel ActionKind = "cancel"
)

// words names the action in sentences.
func (k ActionKind) words() string {
	switch k {
	case ActionRead:
		return "Read"
	case ActionObserve:
		return "Observe"
	case ActionReset:
		return "the reset"
	case ActionWriteURI:
		return "Write 5/0/1"
	case ActionPush:
		return "the push"
	case ActionExecute:
		return "Execute"
	case ActionCancel:
		return "the cancellation"
	default:
		return "no action"
	}
}

// answer names the answer to the action in sentences.
func (k ActionKind) answer() string {
	switch k { // the kinds for which most updates wait cost no memory
	case ActionRead:
		return waitAnswer + "Read"
	case ActionWriteURI:
		return waitAnswer + "Write 5/0/1"
	case ActionExecute:
		return waitAnswer + "Execute"
	default:
		return waitAnswer + k.words()
	}
}

// Action is something to do with the device. Kind says which of the fields count.
type Action struct {
	Kind ActionKind `record:"1"`
	// ID names the action in [ObserveDone]; it is unique within the update.
	ID uint32 `record:"2"`
	// Resources are those to read.
	Resources Resources `record:"3"`
	// Reset is the form of a reset.
	Reset ResetForm `record:"4"`
	// Protocol is the scheme of the Package URI.
	Protocol Protocol `record:"5"`
	// PathOnly asks for a Package URI that is only a path.
	PathOnly bool `record:"6"`
	// Fresh asks for a Package URI that was not used before.
	Fresh bool `record:"7"`
}

// Actions is what a step asks of the shell, in the order of the fields.
type Actions struct {
	// Abandon: the machine gives up the action under way, because the device registered again or
	// the update ended. Stop it before the update is persisted; after that no message of it may go
	// out. The machine ignores its end.
	Abandon bool
	// Persist: make the new update durable before anything below begins. Persist is set before
	// every request that changes the device, by every order of an operator, at the end, and where a
	// later decision needs a fact that no read shows again. Without Persist, the shell may store
	// the new update some time later, with the next one that has Persist at the latest: after a
	// crash, ObserveResumed leads to a read, which shows again what was lost.
	Persist bool
	// Journal holds the lines to append in the commit that stores this update, after those of
	// earlier steps that are not stored yet.
	Journal []Entry
	// Holds: the device provably holds this update's package (Plan.Digest) in State Downloaded.
	// Store that with the device's facts, in the same commit.
	Holds bool
	// Do is the one action to begin now. Its Kind is ActionNone if there is nothing to do.
	Do Action
	// Ended: the update has its outcome. Cancel its observation and its Package URIs.
	Ended bool
}
