package fsm

// ActionKind is something to do with the device.
type ActionKind uint8

// The actions. Every one is answered with [ObserveDone].
const (
	// ActionNone: nothing; the machine waits, until [Update.Wake] at the latest.
	ActionNone ActionKind = iota
	// ActionRead reads Action.Resources.
	ActionRead
	// ActionObserve observes 5/0/3 and 5/0/5. A device that refuses is polled.
	ActionObserve
	// ActionReset brings the device back to Idle in the form Action.Reset.
	ActionReset
	// ActionWriteURI writes a Package URI of Action.Protocol into 5/0/1.
	ActionWriteURI
	// ActionPush writes the package into 5/0/0. Progress is reported with
	// [ObserveProgress].
	ActionPush
	// ActionExecute executes 5/0/2.
	ActionExecute
	// ActionCancel is the farewell of an update that was ended from here:
	// Execute 5/0/10 and, if that is refused and Action.Reset is ResetEmptyURI,
	// an empty 5/0/1; then a read of 5/0/3 and 3/0/3, which comes back as
	// Observation.Reading. It is tried once, and not at all if another update of
	// the device has begun to write.
	ActionCancel

	actionEnd
)

var actionNames = [...]string{
	ActionNone: "none", ActionRead: "read", ActionObserve: "observe", ActionReset: "reset",
	ActionWriteURI: "write URI", ActionPush: "push", ActionExecute: "execute", ActionCancel: "cancel",
}

// String returns the name in words.
func (k ActionKind) String() string {
	if k >= actionEnd {
		return "unknown action"
	}
	return actionNames[k]
}

// Action is something to do with the device. Kind says which of the fields
// count.
type Action struct {
	Kind ActionKind `json:"kind"`
	// ID names the action in [ObserveDone]; it is unique within the update.
	ID uint32 `json:"id"`
	// Resources is what to read.
	Resources Resources `json:"resources,omitzero"`
	// Reset is the form of a reset.
	Reset ResetForm `json:"reset,omitzero"`
	// Protocol is the scheme of the Package URI.
	Protocol Protocol `json:"protocol,omitzero"`
	// PathOnly asks for a Package URI that is only a path.
	PathOnly bool `json:"path_only,omitzero"`
	// Fresh asks for a Package URI that was not used before.
	Fresh bool `json:"fresh,omitzero"`
}

// Entry is a line of the journal: what happened, and why. The time is that of
// the observation.
type Entry struct {
	Event  string `json:"event"`
	Detail string `json:"detail,omitzero"`
}

// Actions is what a step asks of the shell, in the order of the fields.
type Actions struct {
	// Persist: the new update must be durable before anything below is begun or
	// shown. Without it only soft facts changed, which a crash may lose.
	Persist bool
	// Journal holds the lines to append, together with the update.
	Journal []Entry
	// Holds: it is proven that the device holds this update's package
	// (Plan.Digest) in State Downloaded. To be stored with the device's facts,
	// together with the update.
	Holds bool
	// Abandon: an action under way is given up (the device registered anew, or
	// the update ended). Stop it before the update is persisted: when that is
	// done, no message of it is sent any more. Its end is not listened to.
	Abandon bool
	// Do is the one action to begin now. Its Kind is ActionNone when there is
	// nothing to do.
	Do Action
	// Ended: the update has its outcome. Cancel its observations and its
	// Package URIs.
	Ended bool
}
