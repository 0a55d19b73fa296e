package fsm_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

type named[T any] struct {
	name  string
	value T
}

// situations are the objects that the transition table starts from; together
// they hold every distinction that the machine makes.
func situations() []named[fsm.Object] {
	idle := fsm.NewObject(fsm.Object12, fsm.PushAndPull)
	idle.MaxDefer = 600
	pulling, _ := idle.Step(fsm.Event{Kind: fsm.EventWriteURI, At: epoch, URI: "coap://host/fw"})
	partial, _ := pulling.Step(fsm.Event{Kind: fsm.EventProgress, At: epoch, Transfer: 1, Offset: 500, Size: 1000, ETag: "e"})
	pulled, _ := partial.Step(fsm.Event{Kind: fsm.EventDownloadComplete, At: epoch, Transfer: 1, Size: 1000})
	pushing, _ := idle.Step(fsm.Event{Kind: fsm.EventPackageBegin, At: epoch, Size: 1000})
	downloaded, _ := pulled.Step(fsm.Event{Kind: fsm.EventVerified, At: epoch, Transfer: 1, Size: 1000, PkgVersion: newVersion})
	automatic := downloaded
	automatic.AutoUpgrade = true
	deferred, _ := downloaded.Step(fsm.Event{Kind: fsm.EventExecute, At: epoch, Defer: true})
	updating, _ := downloaded.Step(fsm.Event{Kind: fsm.EventExecute, At: epoch})
	failed, _ := updating.Step(fsm.Event{Kind: fsm.EventInstallFailed, At: epoch, PackageKept: true})
	again, _ := idle.Step(fsm.Event{Kind: fsm.EventWriteURI, At: epoch, URI: "x:", Fault: fsm.ResultUnsupProtocol})
	return []named[fsm.Object]{
		{"Idle", idle}, {"Idle (9)", again},
		{"Downloading (pull)", pulling}, {"Downloading (pull, part)", partial}, {"Downloading (pull, all)", pulled},
		{"Downloading (push)", pushing},
		{"Downloaded", downloaded}, {"Downloaded (auto)", automatic}, {"Downloaded (8)", failed}, {"Downloaded (11)", deferred},
		{"Updating", updating},
	}
}

// events are all kinds of events with all fields that matter.
func events() []named[fsm.Event] {
	list := []named[fsm.Event]{
		{"boot, package gone", fsm.Event{Kind: fsm.EventBoot}},
		{"boot, package kept", fsm.Event{Kind: fsm.EventBoot, PackageKept: true}},
		{"boot, package gone, disk full", fsm.Event{Kind: fsm.EventBoot, Fault: fsm.ResultNoStorage}},
		{"boot, on trial", fsm.Event{Kind: fsm.EventBoot, Install: fsm.InstallPending}},
		{"boot, installed", fsm.Event{Kind: fsm.EventBoot, Install: fsm.InstallSucceeded}},
		{"boot, not installed", fsm.Event{Kind: fsm.EventBoot, Install: fsm.InstallFailed}},
		{"boot, not installed, package kept", fsm.Event{Kind: fsm.EventBoot, Install: fsm.InstallFailed, PackageKept: true}},
		{"write package, first block", fsm.Event{Kind: fsm.EventPackageBegin, Size: 1000}},
		{"write package, no room for it", fsm.Event{Kind: fsm.EventPackageBegin, Size: 1000, Fault: fsm.ResultNoStorage}},
		{"write package, last block", fsm.Event{Kind: fsm.EventPackageEnd, Transfer: 1, Size: 1000}},
		{"write package breaks off", fsm.Event{Kind: fsm.EventPackageAbort, Transfer: 1}},
		{"write package, no storage", fsm.Event{Kind: fsm.EventPackageAbort, Transfer: 1, Fault: fsm.ResultNoStorage}},
		{"write URI", fsm.Event{Kind: fsm.EventWriteURI, URI: "coap://host/fw"}},
		{"write URI, scheme unsupported", fsm.Event{Kind: fsm.EventWriteURI, URI: "ftp://host/fw", Fault: fsm.ResultUnsupProtocol}},
		{"write URI, malformed", fsm.Event{Kind: fsm.EventWriteURI, URI: "::", Fault: fsm.ResultInvalidURI}},
		{"write URI, no room", fsm.Event{Kind: fsm.EventWriteURI, URI: "coap://host/fw", Fault: fsm.ResultNoStorage}},
		{"write URI, 256 bytes", fsm.Event{Kind: fsm.EventWriteURI, URI: "coap://host/" + strings.Repeat("a", 244)}},
		{"reset", fsm.Event{Kind: fsm.EventReset}},
		{"progress", fsm.Event{Kind: fsm.EventProgress, Transfer: 1, Offset: 600, Size: 1000, ETag: "e"}},
		{"download complete", fsm.Event{Kind: fsm.EventDownloadComplete, Transfer: 1, Size: 1000}},
		{"download complete, of an earlier one", fsm.Event{Kind: fsm.EventDownloadComplete, Transfer: 0, Size: 1000}},
	}
	for _, fault := range []fsm.Result{0, 2, 3, 4, 6, 7, 9} {
		list = append(list, named[fsm.Event]{
			fmt.Sprintf("download failed (%d)", fault),
			fsm.Event{Kind: fsm.EventDownloadFailed, Transfer: 1, Fault: fault},
		})
	}
	return append(list, []named[fsm.Event]{
		{"verified", fsm.Event{Kind: fsm.EventVerified, Transfer: 1, Size: 1000, PkgVersion: newVersion}},
		{"verify failed", fsm.Event{Kind: fsm.EventVerifyFailed, Transfer: 1}},
		{"verify failed (6)", fsm.Event{Kind: fsm.EventVerifyFailed, Transfer: 1, Fault: fsm.ResultUnsupFirmware}},
		{"execute update", fsm.Event{Kind: fsm.EventExecute}},
		{"execute update, device defers", fsm.Event{Kind: fsm.EventExecute, Defer: true}},
		{"accept", fsm.Event{Kind: fsm.EventAccept}},
		{"execute cancel", fsm.Event{Kind: fsm.EventCancel}},
		{"timer", fsm.Event{Kind: fsm.EventTimer}},
		{"timer, an hour later", fsm.Event{Kind: fsm.EventTimer, At: epoch.Add(time.Hour)}},
		{"install applied", fsm.Event{Kind: fsm.EventInstallApplied}},
		{"install succeeded", fsm.Event{Kind: fsm.EventInstallSucceeded}},
		{"install failed", fsm.Event{Kind: fsm.EventInstallFailed}},
		{"install failed, package kept", fsm.Event{Kind: fsm.EventInstallFailed, PackageKept: true}},
		{"install failed (5), package kept", fsm.Event{Kind: fsm.EventInstallFailed, PackageKept: true, Fault: fsm.ResultIntegrityFailed}},
		{"install deferred", fsm.Event{Kind: fsm.EventInstallDeferred}},
		{"write severity 2", fsm.Event{Kind: fsm.EventWriteSeverity, Value: 2}},
		{"write severity 3", fsm.Event{Kind: fsm.EventWriteSeverity, Value: 3}},
		{"write max defer 0", fsm.Event{Kind: fsm.EventWriteMaxDefer, Value: 0}},
		{"write max defer -1", fsm.Event{Kind: fsm.EventWriteMaxDefer, Value: -1}},
		{"write auto upgrade true", fsm.Event{Kind: fsm.EventWriteAutoUpgrade, Value: 1}},
	}...)
}

// effectsText lists the effects in the order in which they are owed.
func effectsText(fx fsm.Effects) string {
	var s []string
	for _, e := range []struct {
		on   bool
		name string
	}{
		{fx.Persist, "persist"}, {fx.Abort, "abort"}, {fx.DeleteImage, "delete image"},
		{fx.Code != fsm.CodeNone, "answer " + fx.Code.String()},
		{fx.NotifyResult, "notify result"}, {fx.NotifyState, "notify state"},
		{fx.StartDownload, "start download"}, {fx.Verify, "verify"}, {fx.Install, "install"}, {fx.Reboot, "reboot"},
	} {
		if e.on {
			s = append(s, e.name)
		}
	}
	if len(s) == 0 {
		return "-"
	}
	return strings.Join(s, ", ")
}

// TestTransitions writes down what every event does in every state.
func TestTransitions(t *testing.T) {
	var out strings.Builder
	row := func(from fsm.Object, fromName string, ev named[fsm.Event]) {
		if ev.value.At.IsZero() {
			ev.value.At = epoch.Add(time.Minute)
		}
		to, fx := from.Step(ev.value)
		fmt.Fprintf(&out, "%-25s | %-37s | %-11s | %2d | %s\n", fromName, ev.name, title(to.State), to.Result, effectsText(fx))
	}
	fmt.Fprintf(&out, "%-25s | %-37s | %-11s | %2s | %s\n", "from (result)", "event", "to", "R", "effects, in their order")
	for _, from := range situations() {
		out.WriteString(strings.Repeat("-", 120) + "\n")
		for _, ev := range events() {
			row(from.value, from.name, ev)
		}
	}
	out.WriteString("\nWhat depends on the version of the object (1.2 above), on resource 5/0/9 (both above) and on the defer period (600 s above)\n")
	for _, from := range situations() {
		for _, version := range []fsm.ObjectVersion{fsm.Object10, fsm.Object11} {
			old := from.value
			old.Version = version
			for _, ev := range events() {
				switch ev.value.Kind {
				case fsm.EventCancel, fsm.EventWriteSeverity, fsm.EventWriteAutoUpgrade:
					row(old, version.String()+" "+from.name, ev)
				case fsm.EventExecute:
					if ev.value.Defer && from.name == "Downloaded" {
						row(old, version.String()+" "+from.name, ev)
					}
				}
			}
		}
	}
	for _, method := range []fsm.DeliveryMethod{fsm.PullOnly, fsm.PushOnly} {
		idle := fsm.NewObject(fsm.Object12, method)
		for _, ev := range events() {
			if ev.name == "write URI" || ev.name == "write package, first block" {
				row(idle, method.String()+" only Idle", ev)
			}
		}
	}
	for _, from := range situations() {
		if from.name == "Downloaded" {
			from.value.MaxDefer = 0
			for _, ev := range events() {
				if ev.value.Defer {
					row(from.value, "Downloaded, no deferring", ev)
				}
			}
		}
		if from.name == "Downloaded (11)" {
			for _, ev := range events() {
				if ev.value.Defer {
					ev.value.At, ev.name = epoch.Add(time.Hour), ev.name+", too late"
					row(from.value, "Downloaded (11)", ev)
				}
			}
		}
	}
	golden(t, "testdata/transitions.golden", out.String())
}

func title(s fsm.State) string {
	name := s.String()
	return strings.ToUpper(name[:1]) + name[1:]
}

// edges are the Results that the specification allows on a change of State.
var edges = map[[2]fsm.State][]fsm.Result{
	{fsm.Idle, fsm.Idle}:              nil, // any: a failure too quick to show Downloading
	{fsm.Idle, fsm.Downloading}:       {0},
	{fsm.Downloading, fsm.Idle}:       {0, 2, 3, 4, 5, 6, 7, 9, 10},
	{fsm.Downloading, fsm.Downloaded}: {0},
	{fsm.Downloaded, fsm.Idle}:        {0, 10},
	{fsm.Downloaded, fsm.Downloaded}:  {0, 8, 11},
	{fsm.Downloaded, fsm.Updating}:    {0},
	{fsm.Updating, fsm.Idle}:          {1, 5, 8},
	{fsm.Updating, fsm.Downloaded}:    {8, 11},
	{fsm.Updating, fsm.Updating}:      {0},
}

// TestReachable walks all objects that events can lead to, and checks each step
// against the specification.
func TestReachable(t *testing.T) {
	seen := map[fsm.Object]bool{}
	var queue []fsm.Object
	visit := func(o fsm.Object) {
		o.Transfer = min(o.Transfer, 1) // events carry 1: the transfer under way
		if !seen[o] {
			seen[o] = true
			queue = append(queue, o)
		}
	}
	for _, version := range []fsm.ObjectVersion{fsm.Object10, fsm.Object11, fsm.Object12} {
		for _, method := range []fsm.DeliveryMethod{fsm.PullOnly, fsm.PushOnly, fsm.PushAndPull} {
			o := fsm.NewObject(version, method)
			o.MaxDefer = 600
			visit(o)
		}
	}
	steps := 0
	for len(queue) > 0 {
		o := queue[0]
		queue = queue[1:]
		for _, ev := range events() {
			if ev.value.At.IsZero() {
				ev.value.At = epoch
			}
			next, fx := o.Step(ev.value)
			steps++
			at := fmt.Sprintf("%+v, %s -> %+v, %s", o, ev.name, next, effectsText(fx))
			if next.State != o.State || next.Result != o.Result {
				allowed, ok := edges[[2]fsm.State{o.State, next.State}]
				require.True(t, ok, "no such transition: %s", at)
				require.True(t, allowed == nil || slices.Contains(allowed, next.Result), "result on this transition: %s", at)
			}
			require.Equal(t, next != o, fx.Persist, "persisted when changed: %s", at)
			require.Equal(t, next.State != o.State, fx.NotifyState, at)
			require.Equal(t, next.Result != o.Result, fx.NotifyResult, at)
			require.False(t, fx.StartDownload && next.State != fsm.Downloading, at)
			require.False(t, fx.Verify && !(next.State == fsm.Downloading && next.Complete), at)
			require.False(t, (fx.Install || fx.Reboot) && next.State != fsm.Updating, at)
			require.False(t, fx.DeleteImage && (next.State == fsm.Downloaded || next.State == fsm.Updating), at)
			require.Equal(t, next.State == fsm.Idle, next.Delivery == fsm.DeliveryAuto, "a package exists outside of Idle: %s", at)
			if !fx.Code.OK() && fx.Code != fsm.CodeNone {
				next.Result = o.Result
				require.Equal(t, o, next, "a refused request changes at most the Result: %s", at)
			}
			visit(next)
		}
	}
	t.Logf("%d objects, %d steps", len(seen), steps)
	require.Greater(t, len(seen), 100)
}

// TestStepAllocatesNothing: a device steps without garbage.
func TestStepAllocatesNothing(t *testing.T) {
	list := situations()
	evs := events()
	require.Zero(t, testing.AllocsPerRun(10, func() {
		for _, o := range list {
			for _, ev := range evs {
				o.value.Step(ev.value)
			}
		}
	}))
}
