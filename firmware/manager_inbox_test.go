package firmware

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// TestInbox fills an inbox, which is never emptied, with hours of observations: it stays short,
// keeps the last one of each kind, and keeps the order.
func TestInbox(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var b inbox
		last := map[fsm.ObservationKind]uint32{}
		for n := range 500 {
			kind := fsm.ObservationKind(1 + random.IntN(int(fsm.ObserveCancel)))
			if n > 50 && (kind == fsm.ObserveCancel || kind == fsm.ObserveRegistered) {
				continue // these come once, long before the rest
			}
			b.add(item{Observation: fsm.Observation{Kind: kind, Action: uint32(n)}})
			last[kind] = uint32(n)
			require.LessOrEqual(t, len(b), maxInbox)
		}
		have := map[fsm.ObservationKind]uint32{}
		for len(b) > 0 {
			o := b.next()
			have[o.Kind] = o.Action
		}
		require.Equal(t, last, have)
		require.Nil(t, b)
	}
}

// TestInboxHints: of two hints the later one stays. If they do not show the same State, it shows
// none, so that the device is read.
func TestInboxHints(t *testing.T) {
	hint := func(state fsm.State) item {
		o := fsm.Observation{Kind: fsm.ObserveHint}
		o.Reading.State = fsm.Known(state)
		return item{Observation: o}
	}
	var b inbox
	b.add(hint(fsm.Downloading))
	b.add(hint(fsm.Downloading))
	require.Equal(t, inbox{hint(fsm.Downloading)}, b)
	b.add(hint(fsm.Updating))
	b.add(hint(fsm.Updating))
	require.Equal(t, inbox{{Observation: fsm.Observation{Kind: fsm.ObserveHint}}}, b)
}
