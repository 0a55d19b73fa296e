package fsm

// The sentences of [Wait].Reason. One that ends with a blank goes on with what is in question.
// doc/troubleshooting.md says what each means and what to do; a test compares.
const (
	waitRegister      = "device to register"
	waitRestart       = "device to restart and register"
	waitAsleep        = "sleeping device to wake"
	waitAway          = "device to come back"
	waitTurn          = "turn in this server's queue for "
	waitPush          = "push to finish"
	waitPushRefused   = "push to go on: the device refuses a block that the server sent again"
	waitPushBusy      = "push to go on: the device is busy"
	waitPushSilent    = "push to go on: the device does not answer"
	waitAnswer        = "answer to "
	waitReadAnswer    = "device to answer a read"
	waitAttempt       = "next attempt, because: "
	waitExecute       = "next Execute"
	waitReset         = "device to be reset again"
	waitHold          = "hold to be released"
	waitDeferred      = "device to start the deferred update"
	waitSettle        = "second look, because the device "
	waitRead          = "device to be read"
	waitOther         = "device to finish another update"
	waitOtherTransfer = "device to finish another transfer"
	waitBegin         = "device to begin"
	waitDownload      = "device to begin its download"
	waitDownloading   = "download to finish"
	waitCheck         = "device to check the package"
	waitStart         = "device to start the update"
	waitInstall       = "device to finish the update"
	waitReboot        = "device to restart"
	waitResult        = "device to report a result"
)
