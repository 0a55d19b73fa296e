package devicetest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/bundle"
	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/firmware/fsm"
)

var errMistake = errors.New("mistake")

// mistaken is a Slots with functions in the place of some methods.
type mistaken struct {
	*device.Slots
	loadState   func() ([]byte, error)
	saveState   func(record []byte) error
	status      func(device.InstallerStatus) device.InstallerStatus
	openPackage func(offset, size int64) (device.PackageWriter, error)
	verify      func(context.Context) (device.PackageInfo, error)
	discard     func() error
	apply       func(context.Context) (bool, error)
	confirm     func() error
	rollback    func() error
}

func (m *mistaken) LoadState(ctx context.Context) ([]byte, error) {
	if m.loadState != nil {
		return m.loadState()
	}
	return m.Slots.LoadState(ctx)
}

func (m *mistaken) SaveState(ctx context.Context, record []byte) error {
	if m.saveState != nil {
		return m.saveState(record)
	}
	return m.Slots.SaveState(ctx, record)
}

func (m *mistaken) Status(ctx context.Context) (device.InstallerStatus, error) {
	s, err := m.Slots.Status(ctx)
	if m.status != nil {
		s = m.status(s)
	}
	return s, err
}

func (m *mistaken) OpenPackage(ctx context.Context, offset, size int64) (device.PackageWriter, error) {
	if m.openPackage != nil {
		return m.openPackage(offset, size)
	}
	return m.Slots.OpenPackage(ctx, offset, size)
}

func (m *mistaken) Verify(ctx context.Context) (device.PackageInfo, error) {
	if m.verify != nil {
		return m.verify(ctx)
	}
	return m.Slots.Verify(ctx)
}

func (m *mistaken) Discard(ctx context.Context) error {
	if m.discard != nil {
		return m.discard()
	}
	return m.Slots.Discard(ctx)
}

func (m *mistaken) Apply(ctx context.Context) (bool, error) {
	if m.apply != nil {
		return m.apply(ctx)
	}
	return m.Slots.Apply(ctx)
}

func (m *mistaken) Confirm(ctx context.Context) error {
	if m.confirm != nil {
		return m.confirm()
	}
	return m.Slots.Confirm(ctx)
}

func (m *mistaken) Rollback(ctx context.Context) error {
	if m.rollback != nil {
		return m.rollback()
	}
	return m.Slots.Rollback(ctx)
}

// late is a writer that holds what it got until flush.
type late struct {
	device.PackageWriter
	held  [][]byte
	clone bool // it holds copies
}

func (w *late) Write(p []byte) (int, error) {
	if w.clone {
		p = bytes.Clone(p)
	}
	w.held = append(w.held, p)
	return len(p), nil
}

func (w *late) flush() error {
	for _, p := range w.held {
		if _, err := w.PackageWriter.Write(p); err != nil {
			return err
		}
	}
	w.held = nil
	return nil
}

// keeping keeps the arguments of Write until Sync.
type keeping struct{ late }

func (w *keeping) Sync() (int64, error) {
	if err := w.flush(); err != nil {
		return 0, err
	}
	return w.PackageWriter.Sync()
}

// lazy says that bytes are durable, and writes them in Close.
type lazy struct {
	late
	at int64
}

func (w *lazy) Write(p []byte) (int, error) {
	w.at += int64(len(p))
	return w.late.Write(p)
}

func (w *lazy) Sync() (int64, error) { return w.at, nil }

func (w *lazy) Close() error { return errors.Join(w.flush(), w.PackageWriter.Close()) }

// deaf takes bytes and stores none.
type deaf struct{}

func (deaf) Write(p []byte) (int, error) { return len(p), nil }
func (deaf) Sync() (int64, error)        { return 0, nil }
func (deaf) Close() error                { return nil }

// A mistake is what a programmer may do wrong. check is the check that must find it.
type mistake struct {
	name  string
	check string
	make  func(m *mistaken)
	slots device.SlotConfig
}

var mistakes = []mistake{
	{name: "an empty record instead of none", check: "nothing is stored at first", make: func(m *mistaken) {
		m.loadState = func() ([]byte, error) { return []byte{}, nil }
	}},
	{name: "a package is there that never was", check: "nothing is stored at first", make: func(m *mistaken) {
		m.status = func(s device.InstallerStatus) device.InstallerStatus { s.Staged++; return s }
	}},
	{name: "the record is in memory only", check: "the record is replaced as a whole", make: func(m *mistaken) {
		var kept []byte
		m.loadState = func() ([]byte, error) { return bytes.Clone(kept), nil }
		m.saveState = func(record []byte) error { kept = bytes.Clone(record); return nil }
	}},
	{name: "the record is the caller's slice", check: "the record is replaced as a whole", make: func(m *mistaken) {
		var kept []byte
		m.loadState = func() ([]byte, error) { return kept, nil }
		m.saveState = func(record []byte) error { kept = record; return nil }
	}},
	{name: "one call at a time, SaveState too", check: "the record is saved while another call runs", make: func(m *mistaken) {
		busy := make(chan struct{}, 1)
		m.verify = func(ctx context.Context) (device.PackageInfo, error) {
			select {
			case busy <- struct{}{}:
				for range 1000 { // SaveState comes
					runtime.Gosched()
				}
				info, err := m.Slots.Verify(ctx)
				<-busy
				return info, err
			default:
				return device.PackageInfo{}, errMistake
			}
		}
		m.saveState = func(record []byte) error {
			select {
			case busy <- struct{}{}:
				defer func() { <-busy }()
				return m.Slots.SaveState(context.Background(), record)
			default:
				return errMistake
			}
		}
	}},
	{name: "no digest", check: "a package is taken", make: func(m *mistaken) {
		m.verify = func(ctx context.Context) (device.PackageInfo, error) {
			info, err := m.Slots.Verify(ctx)
			info.Digest = ""
			return info, err
		}
	}},
	{name: "an unknown size is no size", check: "a package of unknown size is taken", make: func(m *mistaken) {
		m.openPackage = func(offset, size int64) (device.PackageWriter, error) {
			if size < 0 {
				return nil, errMistake
			}
			return m.Slots.OpenPackage(context.Background(), offset, size)
		}
	}},
	{name: "Write keeps its argument", check: "a writer does not keep its argument", make: func(m *mistaken) {
		m.openPackage = func(offset, size int64) (device.PackageWriter, error) {
			w, err := m.Slots.OpenPackage(context.Background(), offset, size)
			return &keeping{late{PackageWriter: w}}, err
		}
	}},
	{name: "the offset is ignored", check: "a package goes on after Close", make: func(m *mistaken) {
		m.openPackage = func(_, size int64) (device.PackageWriter, error) {
			return m.Slots.OpenPackage(context.Background(), 0, size)
		}
	}},
	{name: "it appends to what is stored", check: "bytes behind the offset are forgotten", make: func(m *mistaken) {
		m.openPackage = func(offset, size int64) (device.PackageWriter, error) {
			if s, err := m.Slots.Status(context.Background()); err == nil && offset > 0 {
				offset = max(offset, s.Staged)
			}
			return m.Slots.OpenPackage(context.Background(), offset, size)
		}
	}},
	{name: "Sync makes nothing durable", check: "a package goes on after a crash", make: func(m *mistaken) {
		m.openPackage = func(offset, size int64) (device.PackageWriter, error) {
			w, err := m.Slots.OpenPackage(context.Background(), offset, size)
			return &lazy{late{PackageWriter: w, clone: true}, offset}, err
		}
	}},
	{name: "a gap is left", check: "an offset beyond the package is refused", make: func(m *mistaken) {
		m.openPackage = func(offset, size int64) (device.PackageWriter, error) {
			w, err := m.Slots.OpenPackage(context.Background(), offset, size)
			if err != nil {
				return deaf{}, nil
			}
			return w, nil
		}
	}},
	{name: "what is verified stays", check: "a package starts over", make: func(m *mistaken) {
		m.openPackage = func(offset, size int64) (device.PackageWriter, error) {
			if s, err := m.Slots.Status(context.Background()); err == nil && s.Verified {
				return deaf{}, nil
			}
			return m.Slots.OpenPackage(context.Background(), offset, size)
		}
	}},
	{name: "every package is good", check: "damaged packages are refused", make: func(m *mistaken) {
		m.verify = func(ctx context.Context) (device.PackageInfo, error) {
			info, err := m.Slots.Verify(ctx)
			if errors.Is(err, device.ErrIntegrity) {
				err = nil
			}
			return info, err
		}
	}},
	{name: "an error without a Result", check: "damaged packages are refused", make: func(m *mistaken) {
		m.verify = func(ctx context.Context) (device.PackageInfo, error) {
			info, err := m.Slots.Verify(ctx)
			if err != nil {
				err = errMistake
			}
			return info, err
		}
	}},
	{name: "Apply verifies nothing", check: "nothing unverified is applied", make: func(m *mistaken) {
		m.apply = func(ctx context.Context) (bool, error) {
			_, _ = m.Slots.Apply(ctx)
			return true, nil
		}
	}},
	{name: "Discard does nothing", check: "a package is discarded", make: func(m *mistaken) {
		m.discard = func() error { return nil }
	}},
	{name: "Apply again fails", check: "an applied version starts on trial", make: func(m *mistaken) {
		once := false
		m.apply = func(ctx context.Context) (bool, error) {
			if once {
				return false, errMistake
			}
			once = true
			return m.Slots.Apply(ctx)
		}
	}},
	{name: "there is no trial", check: "an applied version starts on trial", make: func(m *mistaken) {
		m.status = func(s device.InstallerStatus) device.InstallerStatus {
			if s.Install == fsm.InstallPending {
				s.Install = fsm.InstallSucceeded
			}
			return s
		}
	}},
	{name: "Confirm does nothing", check: "a confirmed version stays", make: func(m *mistaken) {
		m.confirm = func() error { return nil }
	}},
	{name: "Rollback does nothing", check: "a version that is rolled back goes", make: func(m *mistaken) {
		m.rollback = func() error { return nil }
	}},
	{
		name: "the trial has no end", check: "a version that is never confirmed goes", make: func(*mistaken) {},
		slots: device.SlotConfig{MaxStarts: 1000},
	},
	{name: "Discard ends the trial", check: "a version on trial is not discarded", make: func(m *mistaken) {
		m.discard = func() error { return m.Slots.Rollback(context.Background()) }
	}},
	{name: "a context that ended is a failure", check: "calls end with their context", make: func(m *mistaken) {
		m.verify = func(ctx context.Context) (device.PackageInfo, error) {
			if ctx.Err() != nil {
				return device.PackageInfo{}, device.ErrIntegrity
			}
			return m.Slots.Verify(ctx)
		}
	}},
	{name: "what is verified is in memory only", check: "a crash between two calls does no harm", make: func(m *mistaken) {
		verified := false
		m.verify = func(ctx context.Context) (device.PackageInfo, error) {
			info, err := m.Slots.Verify(ctx)
			verified = err == nil
			return info, err
		}
		m.status = func(s device.InstallerStatus) device.InstallerStatus { s.Verified = s.Verified && verified; return s }
	}},
	{name: "full storage is a failure like others", check: "full storage is reported", make: func(m *mistaken) {
		m.openPackage = func(offset, size int64) (device.PackageWriter, error) {
			w, err := m.Slots.OpenPackage(context.Background(), offset, size)
			if errors.Is(err, device.ErrNoStorage) {
				err = errMistake
			}
			return w, err
		}
	}},
}

// TestMistakes plants mistakes in an installer. The check of what is wrong fails, and each check
// finds one.
func TestMistakes(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	found := map[string]bool{}
	for _, wrong := range mistakes {
		t.Run(wrong.name, func(t *testing.T) {
			config := InstallerConfig{
				Version: "1.0.0", TooLarge: 200_000,
				Start: func(t testing.TB, dir string) Start {
					config := wrong.slots
					config.Trust, config.Version, config.MaxSize = public, "1.0.0", 100_000
					slots, err := device.OpenSlots(dir, config)
					require.NoError(t, err)
					boot, err := slots.Boot()
					require.NoError(t, err)
					m := &mistaken{Slots: slots}
					wrong.make(m)
					return Start{Installer: m, Version: boot.Version, Crash: func() { slots.Close() }}
				},
				Package: func(t testing.TB, version string, size int) []byte {
					var signed bytes.Buffer
					err := bundle.Sign(&signed, private, bundle.Manifest{Name: "sensor", Version: version}, bytes.NewReader(make([]byte, size)))
					require.NoError(t, err)
					return signed.Bytes()
				},
			}
			for _, c := range checks {
				if c.name == wrong.check {
					r := &recorder{TB: t}
					r.run(func() { c.run(newHarness(r, config)) })
					require.NotEmpty(t, r.message, "%q does not find it", c.name)
					t.Log(r.message)
					found[c.name] = true
				}
			}
		})
	}
	for _, c := range checks {
		require.True(t, found[c.name], "no mistake is planted for %q", c.name)
	}
}

// recorder is a test that may fail.
type recorder struct {
	testing.TB
	message string
}

// run runs a test to its end.
func (r *recorder) run(test func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		test()
	}()
	<-done
}

func (r *recorder) Errorf(format string, args ...any) { r.message = fmt.Sprintf(format, args...) }
func (r *recorder) FailNow()                          { runtime.Goexit() }
func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	r.FailNow()
}
func (r *recorder) Skip(args ...any) { runtime.Goexit() }
