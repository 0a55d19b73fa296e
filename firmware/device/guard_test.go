package device

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// stubborn is an installer with one method that misbehaves.
type stubborn struct {
	Installer
	method string
	do     func()
	closed *int
}

func (s stubborn) in(method string) {
	if s.method == method {
		s.do()
	}
}

func (s stubborn) SaveState(ctx context.Context, record []byte) error {
	s.in("SaveState")
	return s.Installer.SaveState(ctx, record)
}

func (s stubborn) OpenPackage(ctx context.Context, offset, size int64) (PackageWriter, error) {
	s.in("OpenPackage")
	out, err := s.Installer.OpenPackage(ctx, offset, size)
	return stubbornWriter{out, s}, err
}

func (s stubborn) Verify(ctx context.Context) (PackageInfo, error) {
	s.in("Verify")
	return s.Installer.Verify(ctx)
}

func (s stubborn) Discard(ctx context.Context) error {
	s.in("Discard")
	return s.Installer.Discard(ctx)
}

func (s stubborn) Apply(ctx context.Context) (bool, error) {
	s.in("Apply")
	return s.Installer.Apply(ctx)
}

func (s stubborn) Confirm(ctx context.Context) error {
	s.in("Confirm")
	return s.Installer.Confirm(ctx)
}

func (s stubborn) Rollback(ctx context.Context) error {
	s.in("Rollback")
	return s.Installer.Rollback(ctx)
}

type stubbornWriter struct {
	PackageWriter
	s stubborn
}

func (w stubbornWriter) Write(p []byte) (int, error) {
	w.s.in("Write")
	return w.PackageWriter.Write(p)
}

func (w stubbornWriter) Sync() (int64, error) {
	w.s.in("Sync")
	return w.PackageWriter.Sync()
}

func (w stubbornWriter) Close() error {
	*w.s.closed++
	w.s.in("Close")
	return w.PackageWriter.Close()
}

// spoil makes a method of the installer call do, from the next start on.
func (r *rig) spoil(method string, do func()) (closed *int) {
	closed = new(int)
	r.wrap = func(i Installer) Installer { return stubborn{i, method, do, closed} }
	return closed
}

// TestInstallerPanics: a panic counts as a failure of the method.
func TestInstallerPanics(t *testing.T) {
	tests := map[string]struct {
		state  fsm.State
		result fsm.Result
		push   bool // fails
	}{
		"SaveState":   {fsm.Idle, fsm.ResultNoStorage, true},
		"OpenPackage": {fsm.Idle, fsm.ResultNoStorage, true},
		"Write":       {fsm.Idle, fsm.ResultNoStorage, true},
		"Sync":        {fsm.Idle, fsm.ResultNoStorage, true},
		"Verify":      {fsm.Idle, fsm.ResultIntegrityFailed, false},
		"Close":       {fsm.Downloaded, fsm.ResultDefault, false},
		"Discard":     {fsm.Downloaded, fsm.ResultDefault, false},
	}
	for method, tc := range tests {
		t.Run(method, func(t *testing.T) {
			hooked(t, func(r *rig, _ <-chan struct{}) {
				r.spoil(method, func() { panic("broken") })
				require.NoError(r.t, r.start())
				err := r.push(testImage("2.0", 100), 64)
				require.Equal(r.t, tc.push, err != nil, "%v", err)
				r.wait(tc.state, tc.result)
				if method == "Discard" {
					require.NoError(r.t, r.write(resURI, lwm2m.String("")))
					r.wait(fsm.Idle, fsm.ResultDefault)
				}
			})
		})
	}
	t.Run("Apply", func(t *testing.T) {
		hooked(t, func(r *rig, _ <-chan struct{}) {
			r.spoil("Apply", func() { panic("broken") })
			r.downloaded()
			require.NoError(r.t, r.execute(resUpdate))
			r.wait(fsm.Downloaded, fsm.ResultUpdateFailed)
		})
	})
}

// TestInstallerHangs: while a method hangs, the device answers requests, and calls that wait for
// the method fail in time.
func TestInstallerHangs(t *testing.T) {
	for _, method := range []string{"OpenPackage", "Write", "Sync"} {
		t.Run(method, func(t *testing.T) {
			hooked(t, func(r *rig, release <-chan struct{}) {
				gate := make(chan struct{})
				closed := r.spoil(method, func() {
					select {
					case <-gate:
					case <-release:
					}
				})
				require.NoError(r.t, r.start())
				pushed := make(chan error, 1)
				go func() { pushed <- r.push(testImage("2.0", 100), 64) }()
				synctest.Wait()
				within(r.t, 0, 0, func() { require.Equal(r.t, fsm.Downloading, r.now().State) })
				within(r.t, installerLimit, 2*installerLimit, func() { require.ErrorIs(r.t, <-pushed, ErrNoStorage) })
				require.Equal(r.t, fsm.ResultNoStorage, r.now().Result)
				// No call waits for the method again.
				within(r.t, 0, time.Second, func() { require.ErrorIs(r.t, r.push(testImage("2.0", 100), 64), ErrNoStorage) })
				close(gate)
				synctest.Wait()
				require.NoError(r.t, r.push(testImage("2.1", 100), 64))
				require.Equal(r.t, "2.1", r.wait(fsm.Downloaded, fsm.ResultDefault).PkgVersion)
				require.Equal(r.t, 2, *closed, "also the writer that came too late")
			})
		})
	}
	t.Run("SaveState", func(t *testing.T) {
		hooked(t, func(r *rig, release <-chan struct{}) {
			r.spoil("SaveState", func() { <-release })
			require.NoError(r.t, r.start())
			answered := make(chan error, 1)
			go func() { answered <- r.write(resSeverity, lwm2m.Integer(2)) }()
			synctest.Wait()
			within(r.t, 0, 0, func() { require.Equal(r.t, fsm.Idle, r.now().State) })
			within(r.t, installerLimit, installerLimit, func() { require.Error(r.t, <-answered) })
		})
	})
	t.Run("Verify", func(t *testing.T) {
		hooked(t, func(r *rig, release <-chan struct{}) {
			r.spoil("Verify", func() { <-release })
			require.NoError(r.t, r.start())
			require.NoError(r.t, r.push(testImage("2.0", 100), 64))
			<-time.After(time.Hour)
			require.Equal(r.t, fsm.Downloading, r.now().State)
			// The device abandons the call that hangs, and the next call may have to wait for it.
			within(r.t, 0, installerLimit+2*abandonAfter, func() { require.NoError(r.t, r.write(resURI, lwm2m.String(""))) })
			r.wait(fsm.Idle, fsm.ResultDefault)
		})
	})
	t.Run("Apply", func(t *testing.T) {
		hooked(t, func(r *rig, release <-chan struct{}) {
			r.spoil("Apply", func() { <-release })
			r.downloaded()
			require.NoError(r.t, r.execute(resUpdate))
			<-time.After(time.Hour)
			require.Equal(r.t, fsm.Updating, r.now().State)
			within(r.t, 0, 2*abandonAfter, r.stop)
		})
	})
	for _, method := range []string{"Confirm", "Rollback"} {
		t.Run(method, func(t *testing.T) {
			hooked(t, func(r *rig, release <-chan struct{}) {
				r.onTrial(func() {
					r.spoil(method, func() { <-release })
					if method == "Rollback" {
						r.config.SelfTest = func(context.Context) error { return errors.New("no sensor") }
					}
				})
				// The program ends and starts again, until the version on trial has used up its
				// starts.
				within(r.t, installerLimit-time.Second, installerLimit+time.Second, func() { require.ErrorIs(r.t, r.endsSometime(), errHung) })
			})
		})
	}
}
