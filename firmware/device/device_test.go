package device

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// serve serves an image under /fw and counts the requests.
func serve(t testing.TB, image []byte) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/fw" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", `"one"`)
		http.ServeContent(w, r, "", time.Time{}, newReader(image))
	}))
	t.Cleanup(s.Close)
	return s
}

func TestPullInstallConfirm(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.start())
	require.Equal(t, BootTarget{Version: "1.0"}, r.boot)
	image := testImage("1.1", 30000)
	server := serve(t, image)

	require.NoError(t, r.write(resURI, lwm2m.String(server.URL+"/fw")))
	o := r.wait(fsm.Downloaded, fsm.ResultDefault)
	require.Equal(t, "1.1", o.PkgVersion)
	require.EqualValues(t, len(image), o.Size)
	require.Equal(t, []lwm2m.Path{pathState, pathState}, r.client.paths(), "downloading, downloaded")
	v, err := r.read(resVersion)
	require.NoError(t, err)
	require.Equal(t, lwm2m.String("1.1"), v)

	require.NoError(t, r.execute(resUpdate))
	require.ErrorIs(t, r.end(), ErrRestart)

	require.NoError(t, r.start())
	require.Equal(t, "1.1", r.boot.Version)
	require.True(t, r.boot.Trial)
	installed, err := os.ReadFile(r.boot.Image)
	require.NoError(t, err)
	require.Equal(t, image, installed)
	r.wait(fsm.Idle, fsm.ResultSuccess)
	require.Equal(t, []lwm2m.Path{pathResult, pathState}, r.client.paths(), "the Result is notified first")
	r.stop()

	require.NoError(t, r.start())
	require.Equal(t, "1.1", r.boot.Version)
	require.False(t, r.boot.Trial)
	r.wait(fsm.Idle, fsm.ResultSuccess)

	// The next update goes into the other slot.
	require.NoError(t, r.push(testImage("1.2", 5000), 512))
	r.wait(fsm.Downloaded, fsm.ResultDefault)
	require.NoError(t, r.execute(resUpdate))
	require.ErrorIs(t, r.end(), ErrRestart)
	require.NoError(t, r.start())
	require.Equal(t, slotB, r.boot.Slot)
	r.wait(fsm.Idle, fsm.ResultSuccess)
}

func TestRollback(t *testing.T) {
	tests := map[string]func(*rig){
		"not registered": func(r *rig) { r.deaf, r.config.ConfirmWithin = true, 20*time.Millisecond },
		"self test":      func(r *rig) { r.config.SelfTest = func(context.Context) error { return errors.New("no sensor") } },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			require.NoError(t, r.start())
			require.NoError(t, r.push(testImage("2.0", 100), 64))
			r.wait(fsm.Downloaded, fsm.ResultDefault)
			require.NoError(t, r.execute(resUpdate))
			require.ErrorIs(t, r.end(), ErrRestart)

			spoil(r)
			require.NoError(t, r.start())
			require.Equal(t, "2.0", r.boot.Version)
			restart, ok := errors.AsType[*RestartError](r.end())
			require.True(t, ok)
			require.True(t, restart.RolledBack)

			require.NoError(t, r.start())
			require.Equal(t, "1.0", r.boot.Version)
			r.wait(fsm.Idle, fsm.ResultUpdateFailed)
		})
	}
}

// TestCrashingVersion installs a version that crashes before its device runs.
func TestCrashingVersion(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.start())
	require.NoError(t, r.push(testImage("2.0", 100), 64))
	r.wait(fsm.Downloaded, fsm.ResultDefault)
	require.NoError(t, r.execute(resUpdate))
	require.ErrorIs(t, r.end(), ErrRestart)
	for n := range 3 {
		s, err := OpenSlots(r.dir, r.slots)
		require.NoError(t, err)
		boot, err := s.Boot()
		require.NoError(t, err)
		require.Equal(t, "2.0", boot.Version)
		require.Equal(t, n+1, boot.Starts)
		require.NoError(t, s.Close())
	}
	require.NoError(t, r.start())
	require.Equal(t, "1.0", r.boot.Version)
	r.wait(fsm.Idle, fsm.ResultUpdateFailed)
}

func TestOldVersionStartedAgain(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.start())
	require.NoError(t, r.push(testImage("2.0", 100), 64))
	r.wait(fsm.Downloaded, fsm.ResultDefault)
	require.NoError(t, r.execute(resUpdate))
	require.ErrorIs(t, r.end(), ErrRestart)

	// A program that does not call Boot continues as the old version: its run asks for the restart
	// again.
	s, err := OpenSlots(r.dir, r.slots)
	require.NoError(t, err)
	defer s.Close()
	d, err := New(s, r.config)
	require.NoError(t, err)
	require.ErrorIs(t, d.run(t.Context(), &testClient{}), ErrRestart)
}

func TestPushFaults(t *testing.T) {
	tests := map[string]struct {
		image  []byte
		config func(*rig)
		result fsm.Result
		code   lwm2m.ResponseCode // 0: the write succeeds
	}{
		"no package":   {image: []byte("something else\n"), result: fsm.ResultUnsupFirmware},
		"two NULs":     {image: []byte{0, 0}, result: fsm.ResultUnsupFirmware},
		"too big":      {image: testImage("2", 1000), config: func(r *rig) { r.config.MaxSize = 999 }, result: fsm.ResultNoStorage, code: lwm2m.CodeInternal},
		"slot too big": {image: testImage("2", 9000), config: func(r *rig) { r.slots.MaxSize = 99 }, result: fsm.ResultNoStorage, code: lwm2m.CodeInternal},
		"disk full": {
			image: testImage("2", 1000), result: fsm.ResultNoStorage, code: lwm2m.CodeInternal,
			config: func(r *rig) {
				r.hook = func(op string) error {
					if op == "free" {
						return ErrNoStorage
					}
					return nil
				}
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			if tc.config != nil {
				tc.config(r)
			}
			require.NoError(t, r.start())
			err := r.push(tc.image, 256)
			require.Equal(t, tc.code != 0, err != nil, "%v", err)
			r.wait(fsm.Idle, tc.result)
		})
	}
}

func TestPushBrokenOff(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.start())
	sink, err := r.object().OpenWrite(t.Context(), pathPackage, -1)
	require.NoError(t, err)
	_, err = sink.Write([]byte("image 2\n"))
	require.NoError(t, err)
	require.Equal(t, fsm.Downloading, r.now().State)
	requireCode(t, r.write(resURI, lwm2m.String("http://x/")), lwm2m.CodeBadRequest)
	sink.Abort(errors.New("silence"))
	r.wait(fsm.Idle, fsm.ResultConnectionLost)
	_, err = sink.Write([]byte("more"))
	require.Error(t, err)

	// A restart during a push ends it.
	sink, err = r.object().OpenWrite(t.Context(), pathPackage, -1)
	require.NoError(t, err)
	_, err = sink.Write([]byte("image 2\n"))
	require.NoError(t, err)
	r.stop()
	require.NoError(t, r.start())
	r.wait(fsm.Idle, fsm.ResultConnectionLost)
}

func TestResetForms(t *testing.T) {
	forms := map[string]func(*rig) error{
		"empty URI":     func(r *rig) error { return r.write(resURI, lwm2m.String("")) },
		"NUL":           func(r *rig) error { return r.push([]byte{0}, 1) },
		"empty package": func(r *rig) error { return r.push(nil, 1) },
		"NUL as value":  func(r *rig) error { return r.write(resPackage, lwm2m.Opaque([]byte{0})) },
	}
	for name, reset := range forms {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			require.NoError(t, r.start())
			require.NoError(t, reset(r), "in Idle")
			require.NoError(t, r.push(testImage("2", 100), 50))
			r.wait(fsm.Downloaded, fsm.ResultDefault)
			requireCode(t, r.push(testImage("3", 100), 50), lwm2m.CodeBadRequest)
			require.NoError(t, reset(r))
			r.wait(fsm.Idle, fsm.ResultDefault)
			require.NoFileExists(t, r.open.imagePath(slotA))

			// During a push.
			sink, err := r.object().OpenWrite(t.Context(), pathPackage, -1)
			require.NoError(t, err)
			_, err = sink.Write([]byte("image 2\n"))
			require.NoError(t, err)
			require.NoError(t, reset(r))
			_, err = sink.Write([]byte("late"))
			require.Error(t, err)
			require.Error(t, sink.Commit(t.Context()))
			r.wait(fsm.Idle, fsm.ResultDefault)

			// During a download.
			hang := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { <-q.Context().Done() }))
			defer hang.Close()
			require.NoError(t, r.write(resURI, lwm2m.String(hang.URL)))
			r.wait(fsm.Downloading, fsm.ResultDefault)
			require.NoError(t, reset(r))
			r.wait(fsm.Idle, fsm.ResultDefault)
		})
	}
}

func TestAnswersByState(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.start())
	requireCode(t, r.execute(resUpdate), lwm2m.CodeMethodNotAllowed)
	requireCode(t, r.execute(resCancel), lwm2m.CodeMethodNotAllowed)
	requireCode(t, r.write(resURI, lwm2m.String("ftp://host/x")), lwm2m.CodeBadRequest)
	require.Equal(t, fsm.ResultUnsupProtocol, r.now().Result)
	requireCode(t, r.write(resURI, lwm2m.String("http:///x")), lwm2m.CodeBadRequest)
	require.Equal(t, fsm.ResultInvalidURI, r.now().Result)
	require.ErrorIs(t, r.write(resState, lwm2m.Integer(2)), lwm2m.ErrMethodNotAllowed)
	require.ErrorIs(t, r.write(99, lwm2m.Integer(2)), lwm2m.ErrNotFound)
	requireCode(t, r.write(resSeverity, lwm2m.Integer(3)), lwm2m.CodeBadRequest)
	require.NoError(t, r.write(resSeverity, lwm2m.Integer(2)))
	requireCode(t, r.write(resAutoUpgrade, lwm2m.Boolean(true)), lwm2m.CodeNotFound)
	_, err := r.read(resPackage)
	require.ErrorIs(t, err, lwm2m.ErrMethodNotAllowed)
	_, err = r.read(resVersion)
	require.ErrorIs(t, err, lwm2m.ErrNotFound)

	require.NoError(t, r.push(testImage("2", 100), 50))
	r.wait(fsm.Downloaded, fsm.ResultDefault)
	require.NoError(t, r.execute(resCancel))
	r.wait(fsm.Idle, fsm.ResultCancelled)
}
