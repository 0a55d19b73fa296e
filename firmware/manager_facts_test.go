package firmware

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// TestFacts reads devices that report much, little and nothing: what they do not report stays
// unknown.
func TestFacts(t *testing.T) {
	facts, ok := firmwareFacts(fsm.Reading{
		State:  fsm.Field[fsm.State]{Code: fsm.CodeNotFound},
		Result: fsm.Field[fsm.Result]{Code: fsm.CodeNotFound}, Version: fsm.Known("1.0.0"),
	}, store.Firmware{})
	require.True(t, ok)
	require.Equal(t, store.Firmware{Version: "1.0.0"}, facts, "a device without Object 5")

	_, ok = firmwareFacts(fsm.Reading{}, store.Firmware{})
	require.False(t, ok, "it has not answered")

	known := store.Firmware{
		State: new(fsm.Downloaded), Result: new(fsm.ResultDefault), Delivery: new(fsm.PushOnly), Holds: "ab", Read: time.Now(),
	}
	facts, ok = firmwareFacts(fsm.Reading{State: fsm.Known(fsm.Idle), Delivery: fsm.Known(fsm.PullOnly)}, known)
	require.True(t, ok)
	require.Equal(t, fsm.Idle, *facts.State)
	require.Equal(t, fsm.PullOnly, *facts.Delivery)
	require.Equal(t, fsm.ResultDefault, *facts.Result)
	require.Equal(t, "ab", facts.Holds)
	require.Equal(t, fsm.Downloaded, *known.State, "what was known is not written to")

	gone, ok := firmwareFacts(fsm.Reading{
		State: fsm.Field[fsm.State]{Code: fsm.CodeNotFound}, Result: fsm.Field[fsm.Result]{Code: fsm.CodeNotFound},
		Delivery: fsm.Field[fsm.DeliverySupport]{Code: fsm.CodeNotFound}, Version: fsm.Known("2.0.0\x00"),
	}, known)
	require.True(t, ok)
	require.Equal(t, store.Firmware{Version: "2.0.0", Holds: "ab", Read: known.Read}, gone, "a new firmware without Object 5")
	require.Empty(t, stillHolds(known, gone, fsm.Reading{State: fsm.Field[fsm.State]{Code: fsm.CodeNotFound}}))

	require.False(t, sameFacts(facts, known))
	require.True(t, sameFacts(facts, store.Firmware{
		State: new(fsm.Idle), Result: new(fsm.ResultDefault), Delivery: new(fsm.PullOnly), Read: time.Now(),
	}))
	require.False(t, sameFacts(store.Firmware{}, store.Firmware{State: new(fsm.Idle)}), "not known is not idle")
	require.False(t, sameFacts(store.Firmware{}, store.Firmware{Protocols: []int{}}), "not known is not an empty list")
}
