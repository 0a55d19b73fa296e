package device

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// hooked runs fn with a device in virtual time. release is closed at the end, for calls that hang.
func hooked(t *testing.T, fn func(r *rig, release <-chan struct{})) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRigIn(t, dir)
		release := make(chan struct{})
		defer func() {
			close(release)
			r.stop()
		}()
		fn(r, release)
	})
}

// within asserts how long f takes.
func within(t testing.TB, least, most time.Duration, f func()) {
	t.Helper()
	began := time.Now()
	f()
	took := time.Since(began)
	require.GreaterOrEqual(t, took, least)
	require.LessOrEqual(t, took, most)
}

// downloaded brings the device to Downloaded.
func (r *rig) downloaded() {
	r.t.Helper()
	require.NoError(r.t, r.start())
	require.NoError(r.t, r.push(testImage("2.0", 100), 64))
	r.wait(fsm.Downloaded, fsm.ResultDefault)
}

// onTrial brings the device to the first start of a new version, and starts it with spoil applied.
func (r *rig) onTrial(spoil func()) {
	r.t.Helper()
	r.downloaded()
	require.NoError(r.t, r.execute(resUpdate))
	require.ErrorIs(r.t, r.end(), ErrRestart)
	spoil()
	require.NoError(r.t, r.start())
	require.True(r.t, r.boot.Trial)
}

// TestSelfTestDoesNotCooperate: whatever SelfTest does, the old version is back after
// ConfirmWithin.
func TestSelfTestDoesNotCooperate(t *testing.T) {
	const limit = time.Minute
	tests := map[string]struct {
		test func(ctx context.Context, release <-chan struct{}) error
		took time.Duration
	}{
		"blocks for ever": {took: limit + abandonAfter, test: func(_ context.Context, release <-chan struct{}) error {
			<-release
			return nil
		}},
		"returns late": {took: limit + 10*time.Second, test: func(context.Context, <-chan struct{}) error {
			<-time.After(limit + 10*time.Second)
			return nil
		}},
		"takes the end for a success": {took: limit, test: func(ctx context.Context, _ <-chan struct{}) error {
			<-ctx.Done()
			return nil
		}},
		"panics": {test: func(context.Context, <-chan struct{}) error { panic("no sensor") }},
		"ends its goroutine": {test: func(context.Context, <-chan struct{}) error {
			runtime.Goexit()
			return nil
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			hooked(t, func(r *rig, release <-chan struct{}) {
				r.config.ConfirmWithin = limit
				within(r.t, tc.took, tc.took+time.Second, func() {
					r.onTrial(func() { r.config.SelfTest = func(ctx context.Context) error { return tc.test(ctx, release) } })
					restart, ok := errors.AsType[*RestartError](r.endsSometime())
					require.True(r.t, ok)
					require.True(r.t, restart.RolledBack)
				})
				<-time.After(2 * limit) // until the late call has returned; its result must not count
				require.NoError(r.t, r.start())
				require.Equal(r.t, "1.0", r.boot.Version)
				r.wait(fsm.Idle, fsm.ResultUpdateFailed)
			})
		})
	}
}

// endsSometime waits until the run of the device has ended.
func (r *rig) endsSometime() error {
	select {
	case err := <-r.ended:
		r.ended = nil
		r.stop()
		return err
	case <-time.After(24 * time.Hour):
		require.FailNow(r.t, "the device does not end")
		return nil
	}
}

func TestDeferDoesNotCooperate(t *testing.T) {
	hangs := func(release <-chan struct{}) bool {
		<-release
		return false
	}
	panics := func(<-chan struct{}) bool { panic("no user") }
	for name, ask := range map[string]func(<-chan struct{}) bool{"blocks": hangs, "panics": panics} {
		t.Run(name, func(t *testing.T) {
			hooked(t, func(r *rig, release <-chan struct{}) {
				var calls atomic.Int32
				r.config.Defer = func() bool {
					calls.Add(1)
					return ask(release)
				}
				r.downloaded()
				require.NoError(r.t, r.write(resMaxDefer, lwm2m.Unsigned(3600)))
				within(r.t, 0, hookLimit, func() { require.NoError(r.t, r.execute(resUpdate)) })
				r.wait(fsm.Downloaded, fsm.ResultDeferred)
				within(r.t, 0, time.Second, func() { require.NoError(r.t, r.execute(resUpdate)) })
				if name == "blocks" {
					require.EqualValues(r.t, 1, calls.Load(), "one that hangs is not asked again")
				}
				// The deferral counts, although Defer has not answered.
				require.ErrorIs(r.t, r.endsSometime(), ErrRestart)
			})
			hooked(t, func(r *rig, release <-chan struct{}) {
				r.config.Defer = func() bool { return ask(release) }
				r.downloaded()
				require.NoError(r.t, r.execute(resUpdate))
				require.ErrorIs(r.t, r.endsSometime(), ErrRestart, "deferring is not allowed")
			})
		})
	}
}

// TestCredentialsDoNotCooperate: a call of Credentials that hangs ends the download.
func TestCredentialsDoNotCooperate(t *testing.T) {
	for _, panics := range []bool{false, true} {
		hooked(t, func(r *rig, release <-chan struct{}) {
			r.config.Credentials = func(string) lwm2m.FetchConfig {
				if panics {
					panic("no key")
				}
				<-release
				return lwm2m.FetchConfig{}
			}
			require.NoError(r.t, r.start())
			require.NoError(r.t, r.write(resURI, lwm2m.String("coaps://192.0.2.1/fw")))
			within(r.t, 0, hookLimit+time.Second, func() { r.wait(fsm.Idle, fsm.ResultConnectionLost) })
		})
	}
}

// deafTransport ignores the end of the context of its request.
type deafTransport struct{ release <-chan struct{} }

func (d deafTransport) RoundTrip(*http.Request) (*http.Response, error) {
	<-d.release
	return nil, errors.New("too late")
}

// TestTransportDoesNotCooperate: the device abandons a download whose Transport ignores its
// context.
func TestTransportDoesNotCooperate(t *testing.T) {
	hooked(t, func(r *rig, release <-chan struct{}) {
		r.config.Transport = deafTransport{release}
		require.NoError(r.t, r.start())
		require.NoError(r.t, r.write(resURI, lwm2m.String("http://192.0.2.1/fw")))
		r.wait(fsm.Downloading, fsm.ResultDefault)
		within(r.t, 0, abandonAfter+time.Second, func() { require.NoError(r.t, r.write(resURI, lwm2m.String(""))) })
		r.wait(fsm.Idle, fsm.ResultDefault)
		require.NoError(r.t, r.push(testImage("2.0", 100), 64))
		r.wait(fsm.Downloaded, fsm.ResultDefault)
	})
}
