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

// situations are the objects that the transition table starts from; together they cover every
// distinction that the machine makes.
func situations() []named[fsm.Object] {
	idle := fsm.NewObject(fsm.Object12, fsm.PushAndPull)
	idle.MaxDefer = 600
	pulling, _ := idle.Step(fsm.Input{Kind: fsm.InputWriteURI, At: epoch, URI: "coap://host/fw"})
	partial, _ := pulling.Step(fsm.Input{Kind: fsm.InputProgress, At: epoch, Transfer: 1, Offset: 500, Size: 1000, ETag: "e"})
	pulled, _ := partial.Step(fsm.Input{Kind: fsm.InputDownloadComplete, At: epoch, Transfer: 1, Size: 1000})
	pushing, _ := idle.Step(fsm.Input{Kind: fsm.InputPackageBegin, At: epoch, Size: 1000})
	downloaded, _ := pulled.Step(fsm.Input{Kind: fsm.InputVerified, At: epoch, Transfer: 1, Size: 1000, PkgVersion: newVersion})
	automatic := downloaded
	automatic.AutoUpgrade = true
	deferred, _ := downloaded.Step(fsm.Input{Kind: fsm.InputExecute, At: epoch, Defer: true})
	updating, _ := downloaded.Step(fsm.Input{Kind: fsm.InputExecute, At: epoch})
	failed, _ := updating.Step(fsm.Input{Kind: fsm.InputInstallFailed, At: epoch, PackageKept: true})
	again, _ := idle.Step(fsm.Input{Kind: fsm.InputWriteURI, At: epoch, URI: "x:", Fault: fsm.ResultUnsupProtocol})
	return []named[fsm.Object]{
		{"Idle", idle}, {"Idle (9)", again},
		{"Downloading (pull)", pulling}, {"Downloading (pull, part)", partial}, {"Downloading (pull, all)", pulled},
		{"Downloading (push)", pushing},
		{"Downloaded", downloaded}, {"Downloaded (auto)", automatic}, {"Downloaded (8)", failed}, {"Downloaded (11)", deferred},
		{"Updating", updating},
	}
}

// events are all kinds of events with all fields that matter.
func events() []named[fsm.Input] {
	list := []named[fsm.Input]{
		{"boot, package gone", fsm.Input{Kind: fsm.InputBoot}},
		{"boot, package kept", fsm.Input{Kind: fsm.InputBoot, PackageKept: true}},
		{"boot, package gone, disk full", fsm.Input{Kind: fsm.InputBoot, Fault: fsm.ResultNoStorage}},
		{"boot, on trial", fsm.Input{Kind: fsm.InputBoot, Install: fsm.InstallPending}},
		{"boot, installed", fsm.Input{Kind: fsm.InputBoot, Install: fsm.InstallSucceeded}},
		{"boot, not installed", fsm.Input{Kind: fsm.InputBoot, Install: fsm.InstallFailed}},
		{"boot, not installed, package kept", fsm.Input{Kind: fsm.InputBoot, Install: fsm.InstallFailed, PackageKept: true}},
		{"write package, first block", fsm.Input{Kind: fsm.InputPackageBegin, Size: 1000}},
		{"write package, no room for it", fsm.Input{Kind: fsm.InputPackageBegin, Size: 1000, Fault: fsm.ResultNoStorage}},
		{"write package, last block", fsm.Input{Kind: fsm.InputPackageEnd, Transfer: 1, Size: 1000}},
		{"write package breaks off", fsm.Input{Kind: fsm.InputPackageAbort, Transfer: 1}},
		{"write package, no storage", fsm.Input{Kind: fsm.InputPackageAbort, Transfer: 1, Fault: fsm.ResultNoStorage}},
		{"write_uri", fsm.Input{Kind: fsm.InputWriteURI, URI: "coap://host/fw"}},
		{"write_uri, scheme unsupported", fsm.Input{Kind: fsm.InputWriteURI, URI: "ftp://host/fw", Fault: fsm.ResultUnsupProtocol}},
		{"write_uri, malformed", fsm.Input{Kind: fsm.InputWriteURI, URI: "::", Fault: fsm.ResultInvalidURI}},
		{"write_uri, no room", fsm.Input{Kind: fsm.InputWriteURI, URI: "coap://host/fw", Fault: fsm.ResultNoStorage}},
		{"write_uri, 256 bytes", fsm.Input{Kind: fsm.InputWriteURI, URI: "coap://host/" + strings.Repeat("a", 244)}},
		{"reset", fsm.Input{Kind: fsm.InputReset}},
		{"progress", fsm.Input{Kind: fsm.InputProgress, Transfer: 1, Offset: 600, Size: 1000, ETag: "e"}},
		{"download complete", fsm.Input{Kind: fsm.InputDownloadComplete, Transfer: 1, Size: 1000}},
		{"download complete, of an earlier one", fsm.Input{Kind: fsm.InputDownloadComplete, Transfer: 0, Size: 1000}},
	}
	for _, fault := range []fsm.Result{0, 2, 3, 4, 6, 7, 9} {
		list = append(list, named[fsm.Input]{
			fmt.Sprintf("download failed (%d)", fault),
			fsm.Input{Kind: fsm.InputDownloadFailed, Transfer: 1, Fault: fault},
		})
	}
	return append(list, []named[fsm.Input]{
		{"verified", fsm.Input{Kind: fsm.InputVerified, Transfer: 1, Size: 1000, PkgVersion: newVersion}},
		{"verify failed", fsm.Input{Kind: fsm.InputVerifyFailed, Transfer: 1}},
		{"verify failed (6)", fsm.Input{Kind: fsm.InputVerifyFailed, Transfer: 1, Fault: fsm.ResultUnsupFirmware}},
		{"execute update", fsm.Input{Kind: fsm.InputExecute}},
		{"execute update, device defers", fsm.Input{Kind: fsm.InputExecute, Defer: true}},
		{"accept", fsm.Input{Kind: fsm.InputAccept}},
		{"execute cancel", fsm.Input{Kind: fsm.InputCancel}},
		{"timer", fsm.Input{Kind: fsm.InputTimer}},
		{"timer, an hour later", fsm.Input{Kind: fsm.InputTimer, At: epoch.Add(time.Hour)}},
		{"install applied", fsm.Input{Kind: fsm.InputInstallApplied}},
		{"install succeeded", fsm.Input{Kind: fsm.InputInstallSucceeded}},
		{"install failed", fsm.Input{Kind: fsm.InputInstallFailed}},
		{"install failed, package kept", fsm.Input{Kind: fsm.InputInstallFailed, PackageKept: true}},
		{"install failed (5), package kept", fsm.Input{Kind: fsm.InputInstallFailed, PackageKept: true, Fault: fsm.ResultIntegrityFailed}},
		{"install deferred", fsm.Input{Kind: fsm.InputInstallDeferred}},
		{"write severity 2", fsm.Input{Kind: fsm.InputWriteSeverity, Value: 2}},
		{"write severity 3", fsm.Input{Kind: fsm.InputWriteSeverity, Value: 3}},
		{"write max defer 0", fsm.Input{Kind: fsm.InputWriteMaxDefer, Value: 0}},
		{"write max defer -1", fsm.Input{Kind: fsm.InputWriteMaxDefer, Value: -1}},
		{"write auto upgrade true", fsm.Input{Kind: fsm.InputWriteAutoUpgrade, Value: 1}},
	}...)
}

// effectsText lists the effects in the order in which the shell carries them out.
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

// TestTransitions records what every event does in every state.
func TestTransitions(t *testing.T) {
	var out strings.Builder
	row := func(from fsm.Object, fromName string, in named[fsm.Input]) {
		if in.value.At.IsZero() {
			in.value.At = epoch.Add(time.Minute)
		}
		to, fx := from.Step(in.value)
		fmt.Fprintf(&out, "%-25s | %-37s | %-11s | %2d | %s\n", fromName, in.name, title(to.State), to.Result, effectsText(fx))
	}
	fmt.Fprintf(&out, "%-25s | %-37s | %-11s | %2s | %s\n", "from (result)", "event", "to", "R", "effects, in their order")
	for _, from := range situations() {
		out.WriteString(strings.Repeat("-", 120) + "\n")
		for _, in := range events() {
			row(from.value, from.name, in)
		}
	}
	out.WriteString("\nWhat depends on the version of the object (1.2 above), on resource 5/0/9 (both above) and on the defer period (600 s above)\n")
	for _, from := range situations() {
		for _, version := range []fsm.ObjectVersion{fsm.Object10, fsm.Object11} {
			old := from.value
			old.Version = version
			for _, in := range events() {
				switch in.value.Kind {
				case fsm.InputCancel, fsm.InputWriteSeverity, fsm.InputWriteAutoUpgrade:
					row(old, version.String()+" "+from.name, in)
				case fsm.InputExecute:
					if in.value.Defer && from.name == "Downloaded" {
						row(old, version.String()+" "+from.name, in)
					}
				}
			}
		}
	}
	for _, method := range []fsm.DeliverySupport{fsm.PullOnly, fsm.PushOnly} {
		idle := fsm.NewObject(fsm.Object12, method)
		for _, in := range events() {
			if in.name == "write_uri" || in.name == "write package, first block" {
				row(idle, method.String()+" only Idle", in)
			}
		}
	}
	for _, from := range situations() {
		if from.name == "Downloaded" {
			from.value.MaxDefer = 0
			for _, in := range events() {
				if in.value.Defer {
					row(from.value, "Downloaded, no deferring", in)
				}
			}
		}
		if from.name == "Downloaded (11)" {
			for _, in := range events() {
				if in.value.Defer {
					in.value.At, in.name = epoch.Add(time.Hour), in.name+", too late"
					row(from.value, "Downloaded (11)", in)
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

// edges are the Results that the specification allows for a change of State.
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

// TestReachable walks all objects that events can lead to, and checks each step against the
// specification.
func TestReachable(t *testing.T) {
	seen := map[fsm.Object]bool{}
	var queue []fsm.Object
	visit := func(o fsm.Object) {
		o.Transfer = min(o.Transfer, 1) // the events carry 1 as the transfer under way
		if !seen[o] {
			seen[o] = true
			queue = append(queue, o)
		}
	}
	for _, version := range []fsm.ObjectVersion{fsm.Object10, fsm.Object11, fsm.Object12} {
		for _, method := range []fsm.DeliverySupport{fsm.PullOnly, fsm.PushOnly, fsm.PushAndPull} {
			o := fsm.NewObject(version, method)
			o.MaxDefer = 600
			visit(o)
		}
	}
	steps := 0
	for len(queue) > 0 {
		o := queue[0]
		queue = queue[1:]
		for _, in := range events() {
			if in.value.At.IsZero() {
				in.value.At = epoch
			}
			next, fx := o.Step(in.value)
			steps++
			at := fmt.Sprintf("%+v, %s -> %+v, %s", o, in.name, next, effectsText(fx))
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

// TestStepAllocatesNothing: a step of the device's machine does not allocate.
func TestStepAllocatesNothing(t *testing.T) {
	list := situations()
	evs := events()
	require.Zero(t, testing.AllocsPerRun(10, func() {
		for _, o := range list {
			for _, in := range evs {
				o.value.Step(in.value)
			}
		}
	}))
}
