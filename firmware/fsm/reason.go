package fsm

// Reason says in one word, for programs, why an update ended. The journal has the story.
type Reason string

// The reasons.
const (
	// ReasonVersion: the device runs the target version.
	ReasonVersion Reason = "version"
	// ReasonResult: the device reported success, and that is what counts.
	ReasonResult Reason = "result"
	// ReasonSameVersion: the device ran the target version before too; that it installed it is
	// proven otherwise.
	ReasonSameVersion Reason = "same_version"
	// ReasonAlreadyRunning: it ran the target version from the start.
	ReasonAlreadyRunning Reason = "already_running"
	// ReasonOldVersion: it came back with the version it had before.
	ReasonOldVersion Reason = "old_version"
	// ReasonVersionMismatch: it installed something, but runs another version than the target.
	ReasonVersionMismatch Reason = "version_mismatch"
	// ReasonDeviceResult: the device reported a failure that ends the update.
	ReasonDeviceResult Reason = "device_result"
	// ReasonAttempts: the last of the attempts failed.
	ReasonAttempts Reason = "attempts"
	// ReasonRefused: the device refused what had to be done.
	ReasonRefused Reason = "refused"
	// ReasonNoDelivery: device, server and request have no delivery in common.
	ReasonNoDelivery Reason = "no_delivery"
	// ReasonNoObject: the device has no Object 5 that could be used.
	ReasonNoObject Reason = "no_firmware_object"
	// ReasonBadState: Object 5 shows a State that does not exist.
	ReasonBadState Reason = "bad_state"
	// ReasonCannotProve: the device shows a package, or a success, and nothing proves that it is
	// this update's.
	ReasonCannotProve Reason = "cannot_prove"
	// ReasonImage: the image is damaged or missing on the server.
	ReasonImage Reason = "image_damaged"
	// ReasonNotServed: the server serves packages to the device in no way that would do.
	ReasonNotServed Reason = "not_served"
	// ReasonOperator: an operator cancelled it.
	ReasonOperator Reason = "operator"
	// ReasonPhaseLimit: a phase took longer than its limit.
	ReasonPhaseLimit Reason = "phase_limit"
	// ReasonDeadline: the whole update took longer than its deadline.
	ReasonDeadline Reason = "deadline"
)
