package fsm

// Reason says in one word, for programs, why an update ended. The journal has the story.
type Reason string

// The reasons.
const (
	// ReasonVersion: the device runs the target version.
	ReasonVersion Reason = "version"
	// ReasonResult: the device reported success, and that is what counts.
	ReasonResult Reason = "result"
	// ReasonSameVersion: the device runs the target version, as before, and something else proves
	// that it installed the package.
	ReasonSameVersion Reason = "same_version"
	// ReasonAlreadyRunning: the device ran the target version from the start.
	ReasonAlreadyRunning Reason = "already_running"
	// ReasonOldVersion: the device came back with the version that it had before.
	ReasonOldVersion Reason = "old_version"
	// ReasonVersionMismatch: the device installed something, and runs another version than the
	// target.
	ReasonVersionMismatch Reason = "version_mismatch"
	// ReasonDeviceResult: the device reported a failure that ends the update.
	ReasonDeviceResult Reason = "device_result"
	// ReasonAttempts: the last attempt failed.
	ReasonAttempts Reason = "attempts"
	// ReasonRefused: the device refused a request that the update needs.
	ReasonRefused Reason = "refused"
	// ReasonNoDelivery: device, server and request have no delivery in common.
	ReasonNoDelivery Reason = "no_delivery"
	// ReasonNoObject: the device has no usable Object 5.
	ReasonNoObject Reason = "no_firmware_object"
	// ReasonBadState: Object 5 shows a State that does not exist.
	ReasonBadState Reason = "bad_state"
	// ReasonCannotProve: the device shows a package, or a success, and nothing proves that it is
	// this update's.
	ReasonCannotProve Reason = "cannot_prove"
	// ReasonImage: the image is damaged or missing on the server.
	ReasonImage Reason = "image_damaged"
	// ReasonNotServed: the server serves packages by no protocol that the device supports.
	ReasonNotServed Reason = "not_served"
	// ReasonOperator: an operator cancelled the update.
	ReasonOperator Reason = "operator"
	// ReasonPhaseLimit: a phase took longer than its limit.
	ReasonPhaseLimit Reason = "phase_limit"
	// ReasonDeadline: the whole update took longer than its deadline.
	ReasonDeadline Reason = "deadline"
)
