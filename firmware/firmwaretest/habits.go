package firmwaretest

import (
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// Habits are habits of clients, which can be combined. A comment names a client that was seen with
// the habit.
type Habits struct {
	// Mute: the device never notifies, as Wakaama's example.
	Mute bool
	// HidesDownloading: State goes from Idle to Downloaded, as in a push to Anjay.
	HidesDownloading bool
	// StateFirst: State changes before Result, with time in between, as with Zephyr.
	StateFirst time.Duration
	// IgnoresReset: the device accepts an empty Package URI without effect, as Zephyr does in State
	// Downloading.
	IgnoresReset bool
	// StartsIn is the State after the first boot, for clients with a wrong one: Wakaama's example
	// starts in Downloading.
	StartsIn fsm.State
	// DownloadsInWrite: the device downloads while it handles a Write of the Package URI in any
	// State, even of an empty one. It answers after the download, with 5.00 if that failed, and
	// does nothing else meanwhile; State Downloading never shows, and a Result stays. Works for
	// coap over UDP.
	DownloadsInWrite bool
	// CancelFails: a device that is cancelled shows Result UpdateFailed, not Cancelled.
	CancelFails bool
	// NoInstanceRead: Object 5 can only be read resource by resource.
	NoInstanceRead bool
	// NoDeviceRead, if not 0, is the answer to a read of all of Object 3, such as 4.04 or 4.05; its
	// resources can be read one by one.
	NoDeviceRead lwm2m.ResponseCode
	// NoComposite: the device answers 4.05 to Read-Composite, which is optional, and to the other
	// requests of several objects. Works for coap over UDP.
	NoComposite bool

	// Listing is how the registration shows Object 5, and whether there is one. Default: the
	// correct listing.
	Listing Listing
	// Unreadable, if not 0, is the answer to every read and observation of Object 5, such as 4.04
	// or 4.05; the object is listed nevertheless. Leshan's console makes such objects; Wakaama and
	// Anjay answer so for resources that they do not have.
	Unreadable lwm2m.ResponseCode
	// LosesObject: the installed version has no Object 5. No client loses it by itself, but Zephyr
	// and Anjay lack it if their firmware is built without it. A device that is rolled back has it
	// again.
	LosesObject bool
	// Appears, if not 0, is the time from the first boot until Object 5 appears; an Update of the
	// registration then announces it. Anjay and Zephyr do so if their program makes the object
	// after it has registered.
	Appears time.Duration

	// Foreign is a package that is there from the beginning. Default: none.
	Foreign *Foreign
	// Nonsense is returned by reads instead of the truth. Default: none.
	Nonsense Nonsense

	// LocksInPush: while a package is pushed, the device takes only its next block, as Anjay does,
	// which by default has no cache for duplicates. It answers everything else with 5.03 without
	// Max-Age, even a block that is repeated because its acknowledgement was lost. Its own timers
	// stand still: it sends no Update and no notification. With the next block it goes on. 300 s
	// after the last new block it gives the push up, with Result 4, and registers again if
	// necessary. A repeated last block takes it 2 s. Works for coap over UDP.
	LocksInPush bool
	// Buffer, if not 0, is the largest datagram of a request in bytes; the device answers a longer
	// one with 4.13 with neither Block1 nor Size1. Clients with small buffers do that, such as
	// Anjay with one of 1 KB, for which a block of 1024 is too long, while blocks of 512 and less
	// work. Works for coap over UDP.
	Buffer int
}
