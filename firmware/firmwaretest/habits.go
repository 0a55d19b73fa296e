package firmwaretest

import (
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// Habits are habits of clients. Those that a comment gives a client's name were seen with it; they
// can be combined.
type Habits struct {
	// Mute: changes are never notified, as by Wakaama's example.
	Mute bool
	// HidesDownloading: State goes from Idle to Downloaded, as in a push to Anjay.
	HidesDownloading bool
	// StateFirst: State changes before Result, with time in between, as with Zephyr.
	StateFirst time.Duration
	// IgnoresReset: an empty Package URI is accepted and has no effect, as by Zephyr in State
	// Downloading.
	IgnoresReset bool
	// StartsIn is the State after the first boot, for clients that get it wrong: Wakaama's example
	// is in Downloading.
	StartsIn fsm.State
	// NoInstanceRead: Object 5 can only be read resource by resource.
	NoInstanceRead bool

	// Listing is how the registration shows Object 5, and whether there is one. Default: as it
	// should.
	Listing Listing
	// Unreadable, if not 0, is the answer to every read and observation of Object 5, which is
	// listed all the same, such as 4.04 or 4.05. Leshan's console makes such objects; Wakaama's and
	// Anjay's answer so for resources that they do not have.
	Unreadable lwm2m.ResponseCode
	// LosesObject: the version that is installed has no Object 5. No client does that by itself;
	// Zephyr and Anjay do when their firmware is built without it. A device that is rolled back has
	// it again.
	LosesObject bool
	// Appears, if not 0, is how long after the first boot Object 5 is there: an Update of the
	// registration says so. Anjay and Zephyr do that when their program makes the object after it
	// has registered.
	Appears time.Duration

	// Foreign is a package that is there from the beginning. Default: none.
	Foreign *Foreign
	// Nonsense is read instead of the truth. Default: none.
	Nonsense Nonsense

	// LocksInPush: while a package is pushed the device takes its next block and nothing else, as
	// Anjay with its default of no cache for duplicates. Anything else, a block that is repeated as
	// its acknowledgement was lost included, is answered with 5.03 without Max-Age, and the device
	// is deaf to its own clock: it sends no Update and no notification. With the next block it goes
	// on. 300 s after the last new block it gives the push up, with Result 4, and registers again
	// if it has to. A last block that is repeated takes it 2 s. Works for coap over UDP.
	LocksInPush bool
	// Buffer, if not 0, is how many bytes a request may have as a datagram; a longer one is
	// answered with 4.13 with neither Block1 nor Size1. Clients with small buffers do that, such as
	// Anjay with one of 1 KB, for which a block of 1024 is too long, while blocks of 512 and less
	// work. Works for coap over UDP.
	Buffer int
}
