package device

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// TestConfigDefaults: a field that is not set has its documented default; one that is set stays.
func TestConfigDefaults(t *testing.T) {
	c := Config{}.withDefaults()
	require.NotNil(t, c.Logger)
	c.Logger = nil
	require.Equal(t, Config{
		ObjectVersion: fsm.Object11,
		Protocols:     []fsm.Protocol{fsm.ProtocolCoAP, fsm.ProtocolHTTP, fsm.ProtocolHTTPS, fsm.ProtocolCoAPTCP},
		Attempts:      5, MinBackoff: time.Second, MaxBackoff: time.Minute, Idle: 30 * time.Second,
		SyncEvery: 256 << 10, ConfirmWithin: time.Minute,
	}, c)
	require.Equal(t, time.Hour, Config{MinBackoff: time.Hour}.withDefaults().MaxBackoff)
	least := Config{
		ObjectVersion: fsm.Object12, Protocols: []fsm.Protocol{fsm.ProtocolHTTP}, Attempts: 1, MinBackoff: 1, MaxBackoff: 1, Idle: 1,
		SyncEvery: 1, ConfirmWithin: 1,
	}
	got := least.withDefaults()
	got.Logger = nil
	require.Equal(t, least, got)
	keyed := Config{Credentials: func(string) lwm2m.FetchConfig { return lwm2m.FetchConfig{} }}.withDefaults()
	require.Equal(t, []fsm.Protocol{
		fsm.ProtocolCoAP, fsm.ProtocolHTTP, fsm.ProtocolHTTPS, fsm.ProtocolCoAPTCP, fsm.ProtocolCoAPS, fsm.ProtocolCoAPSTCP,
	}, keyed.Protocols)
	for delivery, method := range map[fsm.DeliveryMode]fsm.DeliverySupport{
		fsm.DeliveryAuto: fsm.PushAndPull, fsm.DeliveryPush: fsm.PushOnly, fsm.DeliveryPull: fsm.PullOnly,
	} {
		require.Equal(t, method, Config{Delivery: delivery}.method())
	}
}

// TestMaxSize takes packages of the largest size, and of one byte more, by push and by each
// protocol.
func TestMaxSize(t *testing.T) {
	anything := func(r *rig) { r.slots.Inspect = inspectAnything }
	for _, size := range []int{1, 2, 1000} {
		for over := range 2 {
			image := []byte(strings.Repeat("x", size+over))
			wants := []fsm.State{fsm.Downloaded, fsm.Idle}[over]
			result := []fsm.Result{fsm.ResultDefault, fsm.ResultNoStorage}[over]
			start := func() *rig {
				r := newRig(t)
				anything(r)
				r.config.MaxSize = int64(size)
				require.NoError(t, r.start())
				return r
			}
			r := start()
			require.Equal(t, over > 0, r.push(image, 256) != nil)
			r.wait(wants, result)
			r.stop()

			r = start() // the size is not announced
			sink, err := r.object().OpenWrite(t.Context(), pathPackage, -1)
			require.NoError(t, err)
			_, err = sink.Write(image)
			if over == 0 {
				require.NoError(t, err)
				require.NoError(t, sink.Commit(t.Context()))
			} else {
				require.ErrorIs(t, err, ErrNoStorage)
				sink.Abort(err)
			}
			r.wait(wants, result)
			r.stop()

			r = start()
			require.NoError(t, r.write(resURI, lwm2m.String(serve(t, image).URL+"/fw")))
			r.wait(wants, result)
			r.stop()

			r = start()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.(http.Flusher).Flush()
				w.Write(image)
			}))
			require.NoError(t, r.write(resURI, lwm2m.String(server.URL)))
			r.wait(wants, result)
			r.stop()
			server.Close()
		}
	}
}

// TestDownloadComplete requests the rest of a package that is complete: status 416 confirms that
// only for the same entity tag and size.
func TestDownloadComplete(t *testing.T) {
	image := testImage("2.0", 50000)
	for name, tc := range map[string]struct {
		tag, span string
		complete  bool
	}{
		"complete":         {`"one"`, "bytes */50000", true},
		"another tag":      {`"two"`, "bytes */50000", false},
		"no tag":           {"", "bytes */50000", false},
		"another length":   {`"one"`, "bytes */50001", false},
		"no length":        {`"one"`, "bytes */*", false},
		"no range at all":  {`"one"`, "", false},
		"no unit":          {`"one"`, "*/50000", false},
		"another unit":     {`"one"`, "lines */50000", false},
		"no number at all": {`"one"`, "bytes */x", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n := requests.Add(1)
				if n != 2 {
					w.Header().Set("ETag", `"one"`)
				}
				switch n {
				case 1: // all of it, but no end
					w.(http.Flusher).Flush()
					cut(w, image)
				case 2:
					if r.Header.Get("Range") != "bytes=50000-" {
						t.Errorf("asked for %q", r.Header.Get("Range"))
					}
					if tc.tag != "" {
						w.Header().Set("ETag", tc.tag)
					}
					w.Header().Set("Content-Range", tc.span)
					w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				default:
					http.ServeContent(w, r, "", time.Time{}, newReader(image))
				}
			}))
			defer server.Close()
			r := newRig(t)
			require.NoError(t, r.start())
			require.NoError(t, r.write(resURI, lwm2m.String(server.URL)))
			require.Equal(t, "2.0", r.wait(fsm.Downloaded, fsm.ResultDefault).PkgVersion)
			if tc.complete {
				require.EqualValues(t, 2, requests.Load())
			} else {
				require.EqualValues(t, 3, requests.Load())
			}
			r.stop()
		})
	}
}

// TestContentRange parses the Content-Range headers of servers.
func TestContentRange(t *testing.T) {
	for s, want := range map[string][2]int64{
		"bytes 0-9/10": {0, 10}, "bytes 5-5/6": {5, 6}, "bytes 5-9/*": {5, -1}, "bytes */10": {-1, 10}, "bytes 0-0/1": {0, 1},
	} {
		span, err := contentRange([]string{s})
		require.NoError(t, err, s)
		require.Equal(t, want, [2]int64{span.first, span.total}, s)
	}
	for _, s := range []string{"", "bytes", "bytes 0-9", "0-9/10", "bytes 9-8/10", "bytes x-9/10", "bytes 0-x/10", "bytes 0-9/x", "bytes 5/10", "bytes -1-5/10",
		"bytes */*", "bytes 0-10/10", "bytes 0-9/9223372036854775808", "bytes 0-99999999999999999999/*", "bytes +0-9/10", "bytes  0-9/10",
		"bytes 0-9/10, bytes 0-9/10", "bytes=0-9/10", "bytes 0 - 9/10", "bytes 0-9/", "bytes -/10", "bytes 0-/10",
	} {
		_, err := contentRange([]string{s})
		require.Error(t, err, s)
	}
	for _, values := range [][]string{nil, {"bytes 0-9/10", "bytes 0-9/10"}} {
		_, err := contentRange(values)
		require.Error(t, err)
	}
}

// TestResetRefused resets a device that refuses resets: each form of the request gets an error.
func TestResetRefused(t *testing.T) {
	hooked(t, func(r *rig, release <-chan struct{}) {
		r.spoil("Apply", func() { <-release })
		r.downloaded()
		require.NoError(r.t, r.execute(resUpdate))
		r.wait(fsm.Updating, fsm.ResultDefault)
		requireCode(r.t, r.push([]byte{0}, 1), lwm2m.CodeMethodNotAllowed)
		requireCode(r.t, r.write(resURI, lwm2m.String("")), lwm2m.CodeMethodNotAllowed)
		require.Equal(r.t, fsm.Updating, r.now().State)
	})
	r := newRig(t)
	full := false
	r.hook = func(op string) error {
		if full && strings.HasPrefix(op, "create ") {
			return errors.New("disk broken")
		}
		return nil
	}
	r.downloaded()
	full = true
	require.ErrorContains(t, r.push([]byte{0}, 1), "disk broken")
}

// TestTimerNotSaved lets the time of a deferred update come while nothing can be saved: the device
// retries.
func TestTimerNotSaved(t *testing.T) {
	hooked(t, func(r *rig, _ <-chan struct{}) {
		var broken atomic.Bool
		var tries atomic.Int64
		r.hook = func(op string) error {
			if broken.Load() && strings.HasPrefix(op, "create ") {
				tries.Add(1)
				return errors.New("disk broken")
			}
			return nil
		}
		r.config.MinBackoff, r.config.MaxBackoff = 10*time.Second, 10*time.Second
		r.config.Defer = func() bool { return true }
		r.downloaded()
		require.NoError(r.t, r.write(resMaxDefer, lwm2m.Unsigned(3600)))
		require.NoError(r.t, r.execute(resUpdate))
		r.wait(fsm.Downloaded, fsm.ResultDeferred)
		broken.Store(true)
		<-time.After(59 * time.Minute)
		require.Zero(r.t, tries.Load(), "it is not yet time")
		<-time.After(11 * time.Minute)
		require.Greater(r.t, tries.Load(), int64(30))
		require.Less(r.t, tries.Load(), int64(200))
		broken.Store(false)
		within(r.t, 0, 11*time.Second, func() { require.ErrorIs(r.t, r.endsSometime(), ErrRestart) })
	})
}

// TestLimitsOfCalls compares the limits for calls of the program with the documentation.
func TestLimitsOfCalls(t *testing.T) {
	hooked(t, func(r *rig, release <-chan struct{}) {
		r.spoil("SaveState", func() { <-release })
		require.NoError(r.t, r.start())
		within(r.t, 2*time.Minute, 2*time.Minute, func() { require.Error(r.t, r.write(resSeverity, lwm2m.Integer(2))) })
	})
	hooked(t, func(r *rig, release <-chan struct{}) {
		r.config.Defer = func() bool { <-release; return false }
		r.downloaded()
		require.NoError(r.t, r.write(resMaxDefer, lwm2m.Unsigned(3600)))
		within(r.t, 10*time.Second, 10*time.Second, func() { require.NoError(r.t, r.execute(resUpdate)) })
	})
	hooked(t, func(r *rig, release <-chan struct{}) {
		r.spoil("Verify", func() { <-release })
		require.NoError(r.t, r.start())
		require.NoError(r.t, r.push(testImage("2.0", 100), 64))
		<-time.After(time.Hour)
		within(r.t, 30*time.Second, 30*time.Second, func() { _ = r.write(resURI, lwm2m.String("")) })
	})
}

// TestSavedLate: a state that could not be saved is saved within MaxBackoff after the disk works
// again.
func TestSavedLate(t *testing.T) {
	hooked(t, func(r *rig, _ <-chan struct{}) {
		var broken atomic.Bool
		var saved, tries atomic.Int64
		r.hook = func(op string) error {
			switch {
			case op == "create "+r.dir+"/device.json":
				tries.Add(1)
				if broken.Load() {
					return errors.New("disk broken")
				}
			case op == "rename "+r.dir+"/device.json":
				saved.Add(1)
			}
			return nil
		}
		r.config.MaxBackoff = time.Minute
		require.NoError(r.t, r.start())
		broken.Store(true)
		require.Error(r.t, r.write(resURI, lwm2m.String("http://192.0.2.1/fw")))
		require.Equal(r.t, fsm.ResultNoStorage, r.now().Result)
		before := saved.Load()
		<-time.After(10*time.Minute + time.Second)
		require.Equal(r.t, before, saved.Load())
		require.GreaterOrEqual(r.t, tries.Load(), int64(10))
		require.LessOrEqual(r.t, tries.Load(), int64(15))
		broken.Store(false)
		<-time.After(time.Minute)
		require.Equal(r.t, before+1, saved.Load())
		<-time.After(time.Hour)
		require.Equal(r.t, before+1, saved.Load(), "once")
	})
}
