package fsm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// TestWake: the device needs a timer only for what happens by itself.
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

// TestDeferPeriod: the period counts from the first deferral. A device cannot defer for ever,
// neither by repeated requests nor by its installer.
func TestDeferPeriod(t *testing.T) {
	var deferred fsm.Object
	for _, s := range situations() {
		if s.name == "Downloaded (11)" {
			deferred = s.value
		}
	}
	later, fx := deferred.Step(fsm.Input{Kind: fsm.InputExecute, At: epoch.Add(5 * time.Minute), Defer: true})
	require.Equal(t, deferred, later)
	require.Equal(t, fsm.CodeChanged, fx.Code)

	updating, _ := later.Step(fsm.Input{Kind: fsm.InputTimer, At: later.Wake()})
	require.Equal(t, fsm.Updating, updating.State)
	again, _ := updating.Step(fsm.Input{Kind: fsm.InputInstallDeferred, At: later.Wake().Add(time.Second)})
	require.Equal(t, fsm.Downloaded, again.State)
	require.Equal(t, fsm.ResultUpdateFailed, again.Result)

	// A maximum of 0 ends a period that runs.
	forbidden, _ := deferred.Step(fsm.Input{Kind: fsm.InputWriteMaxDefer, At: epoch.Add(time.Minute)})
	require.Equal(t, epoch.Add(time.Minute), forbidden.Wake())
}

// TestAbortedTransferIsDead: late inputs of an aborted transfer, after another one began, change
// nothing.
func TestAbortedTransferIsDead(t *testing.T) {
	o := fsm.NewObject(fsm.Object11, fsm.PushAndPull)
	o, _ = o.Step(fsm.Input{Kind: fsm.InputWriteURI, At: epoch, URI: "coap://h/1"})
	first := o.Transfer
	o, _ = o.Step(fsm.Input{Kind: fsm.InputReset, At: epoch})
	o, _ = o.Step(fsm.Input{Kind: fsm.InputWriteURI, At: epoch, URI: "coap://h/2"})
	for _, kind := range inputKinds(t) {
		switch kind {
		case fsm.InputPackageAbort, fsm.InputProgress, fsm.InputDownloadComplete, fsm.InputDownloadFailed,
			fsm.InputVerified, fsm.InputVerifyFailed:
			next, fx := o.Step(fsm.Input{Kind: kind, At: epoch, Transfer: first, Size: 1, Offset: 1})
			require.Equal(t, o, next, kind)
			require.Equal(t, fsm.Effects{}, fx, kind)
		}
	}
}
