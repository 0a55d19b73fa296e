package fsm

// Entry is a line of the journal: what happened, and why. Its time is that of the observation.
type Entry struct {
	// Event is one of the Event constants.
	Event string `json:"event"`
	// Detail is a sentence for people.
	Detail string `json:"detail,omitzero"`
}

// The names of the lines that the server's machine writes into the journal of an update. Each has
// one meaning. The names are stored, and programs read them: they do not change within a major
// version.
const (
	// EventStarted: the server begins to work on the update.
	EventStarted = "started"
	// EventResumed: the server continues with the update after a restart.
	EventResumed = "resumed"
	// EventHeld: an operator placed or changed a hold.
	EventHeld = "held"
	// EventReleased: a hold was released, or its time is over.
	EventReleased = "released"
	// EventRetry: something failed, and the server will try it again.
	EventRetry = "retry"
	// EventNotSent: this server did not send a request, because the reason for it changed while the
	// request waited.
	EventNotSent = "not_sent"
	// EventInterrupted: the server gave up a Write, a push or an Execute before its end, so that
	// its effect is unknown.
	EventInterrupted = "interrupted"

	// EventRegistered: the device registered while the update was active.
	EventRegistered = "registered"
	// EventRestarting: after Execute the device went away, or no longer answers.
	EventRestarting = "restarting"
	// EventPolling: the device does not let the server observe the State; the server reads it now
	// and then.
	EventPolling = "polling"
	// EventRead: a read showed the first, or another, State, Result and version.
	EventRead = "read"
	// EventReadFailed: a read brought no value. Written for the first, second, fourth, eighth ...
	// in a row.
	EventReadFailed = "read_failed"
	// EventObjectUnusable: the device answers, and has no Firmware Update object that can be used.
	// Written for the first, second, fourth ... in a row.
	EventObjectUnusable = "object_unusable"
	// EventVersionTrimmed: resource 3/0/3 has blanks or a NUL around the version; the server
	// ignores them.
	EventVersionTrimmed = "version_trimmed"
	// EventSettling: what the device shows may be about to change; the server watches it for a
	// while before it decides.
	EventSettling = "settling"
	// EventObjectChanged: another request of this server changes the Firmware Update object.
	EventObjectChanged = "object_changed"

	// EventReset: the server resets the device to State Idle.
	EventReset = "reset"
	// EventResetFailed: the device refused the reset, or did not answer it.
	EventResetFailed = "reset_failed"
	// EventAdopted: the device holds the package already; no transfer is needed.
	EventAdopted = "adopted"

	// EventWriteURI: an attempt by pull begins; the server writes a Package URI.
	EventWriteURI = "write_uri"
	// EventURIAccepted: the device has the Package URI.
	EventURIAccepted = "uri_accepted"
	// EventURIRefused: the device refused the Package URI.
	EventURIRefused = "uri_refused"
	// EventURIUnanswered: the device did not answer the Package URI, or was busy; it may have it.
	EventURIUnanswered = "uri_unanswered"
	// EventDownloadRequested: the device requested the package.
	EventDownloadRequested = "download_requested"
	// EventConnectionFailed: a connection from the device's address failed before it requested
	// anything.
	EventConnectionFailed = "connection_failed"
	// EventPackageFetched: the program reported that the device fetched the whole package from a
	// server of its own.
	EventPackageFetched = "package_fetched"

	// EventPush: an attempt by push begins.
	EventPush = "push"
	// EventPushAccepted: the device acknowledged the last block.
	EventPushAccepted = "push_accepted"
	// EventPushRefused: the device refused the package.
	EventPushRefused = "push_refused"
	// EventPushTooLarge: the device named the largest package that it takes, and this one is
	// larger.
	EventPushTooLarge = "push_too_large"
	// EventPushBroken: the push broke off; the device did not answer, or was busy.
	EventPushBroken = "push_broken"
	// EventBlockRefused: the device refused a block that the server sent again.
	EventBlockRefused = "block_refused"
	// EventDeviceBusy: the device answered 5.03; the server continues later.
	EventDeviceBusy = "device_busy"
	// EventDeviceSilent: the device does not acknowledge a block of the push.
	EventDeviceSilent = "device_silent"
	// EventDeviceAnswers: the device answers again after EventDeviceBusy or EventDeviceSilent.
	EventDeviceAnswers = "device_answers"
	// EventTransferStarted: the first bytes of the package went to the device.
	EventTransferStarted = "transfer_started"

	// EventExecuteHeld: the device has the package, and a hold keeps the server from executing it.
	EventExecuteHeld = "execute_held"
	// EventExecute: the server executes the package.
	EventExecute = "execute"
	// EventExecuteAccepted: the device accepted Execute.
	EventExecuteAccepted = "execute_accepted"
	// EventExecuteRefused: the device refused Execute.
	EventExecuteRefused = "execute_refused"
	// EventExecuteUnanswered: the device did not answer Execute, or was busy; it may have begun.
	EventExecuteUnanswered = "execute_unanswered"
	// EventDeferred: the device defers the update.
	EventDeferred = "deferred"
	// EventAutoUpgrade: the device installs, or has installed, without Execute.
	EventAutoUpgrade = "auto_upgrade"

	// EventSucceeded, EventRolledBack, EventFailed, EventCancelled and EventTimedOut: the update
	// ended with this [Outcome].
	EventSucceeded  = string(OutcomeSucceeded)
	EventRolledBack = string(OutcomeRolledBack)
	EventFailed     = string(OutcomeFailed)
	EventCancelled  = string(OutcomeCancelled)
	EventTimedOut   = string(OutcomeTimedOut)
	// EventAfterEnd: what the device showed after the server had ended the update changes what it
	// may still do, or shows that it has installed the package.
	EventAfterEnd = "after_end"
)
