package firmware

import (
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// Profiles returns the built-in profiles by name: what kinds of clients need that differs from the specification. The map is
// the caller's.
func Profiles() map[string]fsm.Profile {
	return map[string]fsm.Profile{
		// A client that follows the specification.
		"": {},
		// A client whose host is fixed in its firmware: it takes only a path as Package URI, starts a download of whatever
		// is written there, also of nothing, and may answer only when the download is over. Its packages are public.
		"fixed-host": {
			Name: "fixed-host", PathOnly: true, Reset: fsm.ResetNone, Delivery: fsm.DeliveryPull,
			Protocols: []fsm.Protocol{
				fsm.ProtocolHTTPS, fsm.ProtocolHTTP, fsm.ProtocolCoAPS, fsm.ProtocolCoAP,
			},
			WriteGrace: 10 * time.Minute,
		},
		// A client that pulls although it says it could be pushed to: AVSystem's Anjay does nothing else during a push.
		"pull": {Name: "pull", Delivery: fsm.DeliveryPull},
		// A client that has no cache of duplicates and takes blocks in their order only: AVSystem's Anjay by default. Wrong for
		// one that accepts gaps.
		"no-duplicate-cache": {Name: "no-duplicate-cache", SkipTaken: true},
		// A client that takes 16 KiB of a package in one message over TCP and TLS.
		"large-blocks": {Name: "large-blocks", BlockSize: 16 << 10},
		// A client that is best pushed to.
		"push": {Name: "push", Delivery: fsm.DeliveryPush},
	}
}
