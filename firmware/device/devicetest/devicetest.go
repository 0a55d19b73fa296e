// Package devicetest tests implementations of [device.Installer].
//
// A test of an installer calls [RunInstaller] with a function that starts the device on a
// directory, and one that makes packages:
//
//	func TestInstaller(t *testing.T) {
//		devicetest.RunInstaller(t, devicetest.InstallerConfig{
//			Version: "1.0.0",
//			Start: func(t testing.TB, dir string) devicetest.Start {
//				flash, err := openFlash(dir) // reads what is stored, and decides which version starts
//				if err != nil {
//					t.Fatal(err)
//				}
//				return devicetest.Start{Installer: flash, Version: flash.running, Crash: flash.unlock}
//			},
//			Package: func(t testing.TB, version string, size int) []byte {
//				return makePackage(version, size)
//			},
//		})
//	}
//
// Each promise in the documentation of Installer is a subtest. A crash is simulated by dropping the
// installer and starting another one; a power failure, which also loses what the operating system
// has not written yet, is not simulated.
package devicetest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/firmware/fsm"
)

// InstallerConfig describes the installer under test to [RunInstaller].
type InstallerConfig struct {
	// Start starts the device whose storage is dir, as its boot loader and its program do: it
	// decides which version runs, counts the start of one on trial, and opens the installer. dir is
	// empty at first, and then what earlier starts left in it. An installer that does not use files
	// can take dir as the name of a device. Required.
	Start func(t testing.TB, dir string) Start
	// Package returns a package of a version, of about size bytes, that the installer accepts. It
	// must have a check, such as a digest or a signature, by which Verify finds every damage.
	// Required.
	Package func(t testing.TB, version string, size int) []byte
	// Version is the version that runs on an empty dir. It is lower than "1.1.0". Required.
	Version string
	// TooLarge is a size in bytes for which the device has no room. Default: 0, the errors of full
	// storage are not tested.
	TooLarge int64
}

// Start is one start of the device under test.
type Start struct {
	Installer device.Installer
	// Version is the version that runs.
	Version string
	// Crash does what the end of a process does, such as releasing locks, without making anything
	// durable. Default: nothing.
	Crash func()
}

// RunInstaller tests an installer. Each subtest begins with a device of its own.
func RunInstaller(t *testing.T, config InstallerConfig) {
	if config.Start == nil || config.Package == nil || config.Version == "" {
		t.Fatal("devicetest: Start, Package and Version must be set")
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(newHarness(t, config)) })
	}
}

// A check is one subtest.
type check struct {
	name string
	run  func(*harness)
}

var checks = []check{
	{"nothing is stored at first", nothingStored},
	{"the record is replaced as a whole", recordReplaced},
	{"the record is saved while another call runs", recordConcurrent},
	{"a package is taken", packageTaken},
	{"a package of unknown size is taken", packageOfUnknownSize},
	{"a writer does not keep its argument", bufferReused},
	{"a package goes on after Close", packageResumed},
	{"bytes behind the offset are forgotten", tailForgotten},
	{"a package goes on after a crash", packageResumedAfterCrash},
	{"an offset beyond the package is refused", offsetBeyond},
	{"a package starts over", packageStartsOver},
	{"damaged packages are refused", damagedRefused},
	{"nothing unverified is applied", unverifiedRefused},
	{"a package is discarded", packageDiscarded},
	{"an applied version starts on trial", applied},
	{"a confirmed version stays", confirmed},
	{"a version that is rolled back goes", rolledBack},
	{"a version that is never confirmed goes", neverConfirmed},
	{"a version on trial is not discarded", discardOnTrial},
	{"calls end with their context", contextsEnd},
	{"a crash between two calls does no harm", crashAnywhere},
	{"full storage is reported", storageFull},
}

// harness is a device under test.
type harness struct {
	testing.TB
	config InstallerConfig
	dir    string
	device.Installer
	running string // the version that this start runs
	crashed func()
}

func newHarness(t testing.TB, config InstallerConfig) *harness {
	h := &harness{TB: t, config: config, dir: t.TempDir()}
	h.start()
	t.Cleanup(func() { h.crash() })
	return h
}

// start starts the device.
func (h *harness) start() {
	h.Helper()
	s := h.config.Start(h.TB, h.dir)
	if s.Installer == nil || s.Version == "" {
		h.Fatalf("Start returned no Installer or no Version")
	}
	h.Installer, h.running, h.crashed = s.Installer, s.Version, s.Crash
}

// crash ends what runs.
func (h *harness) crash() {
	if h.crashed != nil {
		h.crashed()
	}
	h.crashed = nil
}

// restart ends what runs and starts the device again. Whether that is a crash or a restart that the
// program wanted makes no difference to an installer.
func (h *harness) restart() {
	h.Helper()
	h.crash()
	h.start()
}

// ok fails the test with an error of a call.
func (h *harness) ok(call string, err error) {
	h.Helper()
	if err != nil {
		h.Fatalf("%s: %v", call, err)
	}
}

// runs fails the test if another version runs.
func (h *harness) runs(version, when string) {
	h.Helper()
	if h.running != version {
		h.Fatalf("%s: version %s runs, not %s", when, h.running, version)
	}
}

// install fails the test unless Status reports an outcome.
func (h *harness) install(want fsm.Install, when string) {
	h.Helper()
	if got := h.status().Install; got != want {
		h.Fatalf("%s: Status reports Install %v, not %v", when, got, want)
	}
}

func (h *harness) status() device.InstallerStatus {
	h.Helper()
	s, err := h.Status(h.Context())
	h.ok("Status", err)
	return s
}

// staged fails the test unless Status reports a package.
func (h *harness) staged(want int64, verified bool, when string) {
	h.Helper()
	if s := h.status(); s.Staged != want || s.Verified != verified {
		h.Fatalf("%s: Status reports %d bytes, verified %t, not %d, %t", when, s.Staged, s.Verified, want, verified)
	}
}

// pkg returns a good package.
func (h *harness) pkg(version string) []byte {
	h.Helper()
	p := h.config.Package(h.TB, version, packageSize)
	if len(p) < 64 {
		h.Fatalf("Package returned %d bytes", len(p))
	}
	return bytes.Clone(p)
}

const (
	packageSize = 40_000
	pieceSize   = 1024 // what one Write gets
)

// open opens the package.
func (h *harness) open(offset, size int64) device.PackageWriter {
	h.Helper()
	w, err := h.OpenPackage(h.Context(), offset, size)
	if err != nil || w == nil {
		h.Fatalf("OpenPackage from byte %d: %v", offset, err)
	}
	return w
}

// write writes p in pieces.
func (h *harness) write(w device.PackageWriter, p []byte) {
	h.Helper()
	h.ok("Write", writeAll(w, p))
}

var errShort = errors.New("fewer bytes without an error")

func writeAll(w device.PackageWriter, p []byte) error {
	for len(p) > 0 {
		piece := p[:min(len(p), pieceSize)]
		n, err := w.Write(piece)
		if err != nil {
			return err
		}
		if n != len(piece) {
			return errShort
		}
		p = p[n:]
	}
	return nil
}

// sync syncs, and returns what is durable of the written bytes.
func (h *harness) sync(w device.PackageWriter, written int) int64 {
	h.Helper()
	n, err := w.Sync()
	h.ok("Sync", err)
	if n < 0 || n > int64(written) {
		h.Fatalf("Sync reports %d durable bytes of %d", n, written)
	}
	return n
}

// stage takes a package, and leaves it complete and unverified.
func (h *harness) stage(p []byte) {
	h.Helper()
	w := h.open(0, int64(len(p)))
	h.write(w, p)
	h.sync(w, len(p))
	h.ok("Close", w.Close())
}

// verify verifies what is stored, and compares what it is.
func (h *harness) verify(version string, p []byte) {
	h.Helper()
	info, err := h.Verify(h.Context())
	h.ok("Verify", err)
	if info.Version != version || info.Size != int64(len(p)) || info.Digest == "" {
		h.Fatalf("Verify found version %q of %d bytes with digest %q, not version %s of %d bytes with a digest",
			info.Version, info.Size, info.Digest, version, len(p))
	}
}

// update installs a version, up to and without the restart. It ends the test where Apply needs
// none.
func (h *harness) update(version string) {
	h.Helper()
	p := h.pkg(version)
	h.stage(p)
	h.verify(version, p)
	h.apply()
}

func (h *harness) apply() {
	h.Helper()
	restart, err := h.Apply(h.Context())
	h.ok("Apply", err)
	if !restart {
		h.Skip("Apply needs no restart: there is no trial")
	}
}

// ended returns a context that has ended.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
