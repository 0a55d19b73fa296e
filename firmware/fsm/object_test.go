package fsm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// TestWake: the device owes a timer only for what is due by itself.
func TestWake(t *testing.T) {
	for _, s := range situations() {
		want := time.Time{}
		switch s.name {
		case "Downloaded (11)":
			want = epoch.Add(10 * time.Minute)
		case "Downloaded (auto)":
			want = epoch
		}
		require.Equal(t, want, s.value.Wake(), s.name)
	}
}

// TestDeferPeriod: the period counts from the first time, and a device cannot
// defer for ever, neither by asking again nor by its installer.
func TestDeferPeriod(t *testing.T) {
	var deferred fsm.Object
	for _, s := range situations() {
		if s.name == "Downloaded (11)" {
			deferred = s.value
		}
	}
	later, fx := deferred.Step(fsm.Event{Kind: fsm.EventExecute, At: epoch.Add(5 * time.Minute), Defer: true})
	require.Equal(t, deferred, later)
	require.Equal(t, fsm.CodeChanged, fx.Code)

	updating, _ := later.Step(fsm.Event{Kind: fsm.EventTimer, At: later.Wake()})
	require.Equal(t, fsm.Updating, updating.State)
	again, _ := updating.Step(fsm.Event{Kind: fsm.EventInstallDeferred, At: later.Wake().Add(time.Second)})
	require.Equal(t, fsm.Downloaded, again.State)
	require.Equal(t, fsm.ResultUpdateFailed, again.Result)

	// Forbidding it ends a period that runs.
	forbidden, _ := deferred.Step(fsm.Event{Kind: fsm.EventWriteMaxDefer, At: epoch.Add(time.Minute)})
	require.Equal(t, epoch.Add(time.Minute), forbidden.Wake())
}

// TestAbortedTransferIsDead: what a transfer reports after it was aborted, and
// another one began, changes nothing.
func TestAbortedTransferIsDead(t *testing.T) {
	o := fsm.NewObject(fsm.Object11, fsm.PushAndPull)
	o, _ = o.Step(fsm.Event{Kind: fsm.EventWriteURI, At: epoch, URI: "coap://h/1"})
	first := o.Transfer
	o, _ = o.Step(fsm.Event{Kind: fsm.EventReset, At: epoch})
	o, _ = o.Step(fsm.Event{Kind: fsm.EventWriteURI, At: epoch, URI: "coap://h/2"})
	for kind := fsm.EventBoot; kind <= fsm.EventWriteAutoUpgrade; kind++ {
		switch kind {
		case fsm.EventPackageAbort, fsm.EventProgress, fsm.EventDownloadComplete, fsm.EventDownloadFailed,
			fsm.EventVerified, fsm.EventVerifyFailed:
			next, fx := o.Step(fsm.Event{Kind: kind, At: epoch, Transfer: first, Size: 1, Offset: 1})
			require.Equal(t, o, next, kind)
			require.Equal(t, fsm.Effects{}, fx, kind)
		}
	}
}
