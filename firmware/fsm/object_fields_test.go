package fsm_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// situation returns one of the situations by its name.
func situation(t *testing.T, name string) fsm.Object {
	for _, s := range situations() {
		if s.name == name {
			return s.value
		}
	}
	require.Fail(t, "no such situation", name)
	return fsm.Object{}
}

// TestURIStays: the Package URI stays readable after a download, until a reset, a success or the
// next write.
func TestURIStays(t *testing.T) {
	for from, events := range map[string]map[string]bool{
		"Downloading (pull, part)": {"reset": false, "download failed (2)": true, "execute cancel": true},
		"Downloading (pull, all)":  {"reset": false, "verified": true, "verify failed": true},
		"Downloaded":               {"reset": false, "execute update": true, "execute cancel": true},
		"Updating":                 {"install succeeded": false, "install failed": true, "install failed, package kept": true},
	} {
		for _, in := range eventsOf(events) {
			o, _ := situation(t, from).Step(in.value)
			require.Equal(t, events[in.name], o.URI == "coap://host/fw", "%s, %s: %q", from, in.name, o.URI)
			require.Equal(t, events[in.name], o.URI != "", "%s, %s: %q", from, in.name, o.URI)
		}
	}
}

// eventsOf returns the events of these names.
func eventsOf(names map[string]bool) []named[fsm.Input] {
	var list []named[fsm.Input]
	for _, in := range events() {
		if _, ok := names[in.name]; ok {
			in.value.At = epoch.Add(time.Minute)
			list = append(list, in)
		}
	}
	return list
}

// TestPackageIsDescribed: the description of a package grows with the download, and goes with the
// package.
func TestPackageIsDescribed(t *testing.T) {
	step := func(o fsm.Object, in fsm.Input) fsm.Object {
		in.At, in.Transfer = epoch, o.Transfer
		o, _ = o.Step(in)
		return o
	}
	describe := func(o fsm.Object) fsm.Object { // only what describes the package
		return fsm.Object{
			Offset: o.Offset, ETag: o.ETag, Size: o.Size, Complete: o.Complete, Digest: o.Digest,
			PkgName: o.PkgName, PkgVersion: o.PkgVersion, DeferUntil: o.DeferUntil,
		}
	}
	o := step(fsm.NewObject(fsm.Object12, fsm.PushAndPull), fsm.Input{Kind: fsm.InputWriteURI, URI: "coap://h/1"})
	require.Equal(t, fsm.Object{}, describe(o))
	require.EqualValues(t, 1, o.Transfer)
	o = step(o, fsm.Input{Kind: fsm.InputProgress, Offset: 10, Size: 1, ETag: "e"})
	require.Equal(t, fsm.Object{Offset: 10, Size: 1, ETag: "e"}, describe(o))
	o = step(o, fsm.Input{Kind: fsm.InputProgress, Offset: 20, ETag: "f"})
	require.Equal(t, fsm.Object{Offset: 20, Size: 1, ETag: "f"}, describe(o), "a size that is not known is none")
	require.Equal(t, fsm.Object{Size: 1, ETag: "f"}, describe(step(o, fsm.Input{Kind: fsm.InputProgress, Offset: -1, ETag: "f"})))
	o = step(o, fsm.Input{Kind: fsm.InputDownloadComplete, Size: 30})
	require.Equal(t, fsm.Object{Offset: 30, Size: 30, ETag: "f", Complete: true}, describe(o))
	require.Equal(t, o, step(o, fsm.Input{Kind: fsm.InputProgress, Offset: 5}), "it is complete")
	require.Equal(t, o, step(o, fsm.Input{Kind: fsm.InputDownloadComplete, Size: 5}))
	require.Equal(t, o, step(o, fsm.Input{Kind: fsm.InputDownloadFailed}))
	same := step(o, fsm.Input{Kind: fsm.InputVerified, Digest: "d"})
	require.Equal(t, fsm.Object{Offset: 30, Size: 30, ETag: "f", Complete: true, Digest: "d"}, describe(same))
	o = step(o, fsm.Input{Kind: fsm.InputVerified, Size: 1, Digest: "d", PkgName: "n", PkgVersion: "v"})
	full := fsm.Object{Offset: 1, Size: 1, ETag: "f", Complete: true, Digest: "d", PkgName: "n", PkgVersion: "v"}
	require.Equal(t, full, describe(o))
	require.Equal(t, fsm.Object{}, describe(step(o, fsm.Input{Kind: fsm.InputReset})))
	require.Equal(t, fsm.Object{}, describe(step(o, fsm.Input{Kind: fsm.InputCancel})))
	updating := step(o, fsm.Input{Kind: fsm.InputExecute})
	require.Equal(t, full, describe(updating))
	require.Equal(t, full, describe(step(updating, fsm.Input{Kind: fsm.InputInstallFailed, PackageKept: true})))
	require.Equal(t, fsm.Object{}, describe(step(updating, fsm.Input{Kind: fsm.InputInstallSucceeded})))
	deferred := step(step(o, fsm.Input{Kind: fsm.InputWriteMaxDefer, Value: 60}), fsm.Input{Kind: fsm.InputExecute, Defer: true})
	require.Equal(t, epoch.Add(time.Minute), deferred.DeferUntil)
	require.Equal(t, fsm.Object{}, describe(step(deferred, fsm.Input{Kind: fsm.InputReset})))
	again := step(step(o, fsm.Input{Kind: fsm.InputReset}), fsm.Input{Kind: fsm.InputPackageBegin, Size: 1})
	require.Equal(t, fsm.Object{Size: 1}, describe(again))
	require.EqualValues(t, 2, again.Transfer)
	require.Equal(t, fsm.Object{}, describe(step(fsm.NewObject(fsm.Object10, fsm.PushOnly), fsm.Input{Kind: fsm.InputPackageBegin, Size: -1})))
}

// TestBootKeeps: a download that a reboot interrupted continues only if the rest can be matched
// with the stored bytes; otherwise the stored bytes are deleted.
func TestBootKeeps(t *testing.T) {
	for _, tt := range []struct {
		offset int64
		etag   string
		kept   bool
		resume bool
		delete bool
	}{
		{500, "e", true, true, false}, {1, "e", true, true, false}, {0, "e", true, true, false},
		{500, "", true, false, true}, {1, "", true, false, true}, {0, "", true, false, false},
		{500, "e", false, false, true}, {1, "e", false, false, true},
	} {
		o := situation(t, "Downloading (pull)")
		o.Offset, o.ETag = tt.offset, tt.etag
		o, fx := o.Step(fsm.Input{Kind: fsm.InputBoot, At: epoch, PackageKept: tt.kept})
		require.True(t, fx.StartDownload, "%+v", tt)
		require.Equal(t, tt.delete, fx.DeleteImage, "%+v", tt)
		if tt.resume {
			require.Equal(t, tt.offset, o.Offset, "%+v", tt)
			require.Equal(t, tt.etag, o.ETag, "%+v", tt)
		} else {
			require.Zero(t, o.Offset, "%+v", tt)
			require.Empty(t, o.ETag, "%+v", tt)
		}
	}
	all := situation(t, "Downloading (pull, all)")
	o, fx := all.Step(fsm.Input{Kind: fsm.InputBoot, At: epoch, PackageKept: true})
	require.Equal(t, all, o)
	require.Equal(t, fsm.Effects{Verify: true}, fx)
	o, fx = all.Step(fsm.Input{Kind: fsm.InputBoot, At: epoch})
	require.False(t, o.Complete)
	require.True(t, fx.StartDownload)

	// The fault of a transfer does not belong to an installation.
	failed, _ := situation(t, "Updating").Step(fsm.Input{Kind: fsm.InputBoot, At: epoch, Install: fsm.InstallFailed, Fault: fsm.ResultNoStorage})
	require.Equal(t, fsm.ResultUpdateFailed, failed.Result)
	broken, _ := situation(t, "Downloading (push)").Step(fsm.Input{Kind: fsm.InputBoot, At: epoch, Fault: fsm.ResultNoStorage})
	require.Equal(t, fsm.ResultNoStorage, broken.Result)
}

// TestFaults: a failure reports the Result of the input. 0 and 1 are no failures, and are replaced
// by the default.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		from  string
		kind  fsm.InputKind
		usual fsm.Result
	}{
		{"Downloading (pull, part)", fsm.InputDownloadFailed, fsm.ResultConnectionLost},
		{"Downloading (push)", fsm.InputPackageAbort, fsm.ResultConnectionLost},
		{"Downloading (pull, all)", fsm.InputVerifyFailed, fsm.ResultIntegrityFailed},
		{"Updating", fsm.InputInstallFailed, fsm.ResultUpdateFailed},
	} {
		for fault := fsm.Result(0); fault < 14; fault++ {
			o := situation(t, tt.from)
			o, _ = o.Step(fsm.Input{Kind: tt.kind, At: epoch, Transfer: o.Transfer, Fault: fault})
			want := fault
			if fault <= fsm.ResultSuccess {
				want = tt.usual
			}
			require.Equal(t, want, o.Result, "%s with %s", tt.from, fault)
			require.Equal(t, fsm.Idle, o.State)
		}
	}
	idle := situation(t, "Idle")
	for fault := fsm.ResultNoStorage; fault <= fsm.ResultUnsupProtocol; fault++ {
		want := fsm.CodeInternalError
		if fault == fsm.ResultInvalidURI || fault == fsm.ResultUnsupProtocol {
			want = fsm.CodeBadRequest
		}
		for _, kind := range []fsm.InputKind{fsm.InputWriteURI, fsm.InputPackageBegin} {
			o, fx := idle.Step(fsm.Input{Kind: kind, At: epoch, URI: "x:", Fault: fault})
			require.Equal(t, fault, o.Result)
			require.Equal(t, want, fx.Code, fault)
		}
	}
	for length, ok := range map[int]bool{0: false, 1: true, 255: true, 256: false} {
		o, fx := idle.Step(fsm.Input{Kind: fsm.InputWriteURI, At: epoch, URI: strings.Repeat("a", length)})
		require.Equal(t, ok, fx.Code == fsm.CodeChanged, "%d bytes", length)
		require.Equal(t, ok, o.State == fsm.Downloading)
	}
}

// TestConfigure writes the resources of later versions: each value in its range, and in the
// versions that have it.
func TestConfigure(t *testing.T) {
	for _, tt := range []struct {
		kind  fsm.InputKind
		since fsm.ObjectVersion
		good  []int64
		bad   []int64
		get   func(o fsm.Object) int64
	}{
		{fsm.InputWriteSeverity, fsm.Object11, []int64{0, 1, 2}, []int64{-1, 3}, func(o fsm.Object) int64 { return int64(o.Severity) }},
		{fsm.InputWriteMaxDefer, fsm.Object11, []int64{0, 1, 1<<32 - 1}, []int64{-1, 1 << 32}, func(o fsm.Object) int64 { return int64(o.MaxDefer) }},
		{fsm.InputWriteAutoUpgrade, fsm.Object12, []int64{0, 1}, nil, func(o fsm.Object) int64 {
			if o.AutoUpgrade {
				return 1
			}
			return 0
		}},
	} {
		for _, version := range []fsm.ObjectVersion{0, fsm.Object10, fsm.Object11, fsm.Object12} {
			before := fsm.NewObject(version, fsm.PullOnly)
			for _, value := range tt.good {
				o, fx := before.Step(fsm.Input{Kind: tt.kind, At: epoch, Value: value})
				if version < tt.since {
					require.Equal(t, fsm.CodeNotFound, fx.Code)
					require.Equal(t, before, o)
					continue
				}
				require.Equal(t, fsm.CodeChanged, fx.Code, "%s %d", tt.kind, value)
				require.Equal(t, value, tt.get(o), tt.kind)
			}
			for _, value := range tt.bad {
				o, fx := before.Step(fsm.Input{Kind: tt.kind, At: epoch, Value: value})
				require.False(t, fx.Code.OK(), "%s %d", tt.kind, value)
				require.Equal(t, before, o)
			}
		}
	}
	// A period of one second defers, a period of zero does not.
	for seconds, state := range map[uint32]fsm.State{0: fsm.Updating, 1: fsm.Downloaded} {
		o := situation(t, "Downloaded")
		o.MaxDefer = seconds
		o, _ = o.Step(fsm.Input{Kind: fsm.InputExecute, At: epoch, Defer: true})
		require.Equal(t, state, o.State, seconds)
		if state == fsm.Downloaded {
			require.Equal(t, epoch.Add(time.Second), o.Wake())
			for at, state := range map[time.Duration]fsm.State{time.Second - 1: fsm.Downloaded, time.Second: fsm.Updating} {
				next, _ := o.Step(fsm.Input{Kind: fsm.InputTimer, At: epoch.Add(at)})
				require.Equal(t, state, next.State, at)
			}
		}
	}
}

// TestAutomaticUpgrade: without Execute only a verified package is due, which was neither deferred
// nor tried before, and only on an object that has the resource.
func TestAutomaticUpgrade(t *testing.T) {
	for _, version := range []fsm.ObjectVersion{0, fsm.Object10, fsm.Object11, fsm.Object12} {
		for _, name := range []string{"Downloading (pull)", "Downloaded", "Downloaded (8)", "Updating", "Idle"} {
			for _, auto := range []bool{true, false} {
				o := situation(t, name)
				o.Version, o.AutoUpgrade = version, auto
				due := auto && version == fsm.Object12 && name == "Downloaded"
				require.Equal(t, due, !o.Wake().IsZero(), "%s, %s", version, name)
				next, fx := o.Step(fsm.Input{Kind: fsm.InputTimer, At: epoch.Add(time.Hour)})
				require.Equal(t, due, fx.Install, "%s, %s", version, name)
				require.Equal(t, due, next != o)
			}
		}
	}
}
