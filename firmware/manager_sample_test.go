package firmware_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// A samplePull downloads as the sample firmware does, from the world's delivery, without a network
// in between. What it gets is firmware.
type samplePull struct {
	w        *world
	time     time.Duration
	requests []string
	got      [][]byte
}

func (p *samplePull) pull(_ context.Context, uri string) fsm.Result {
	raw := "GET /" + uri + " HTTP/1.0"
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw + "\r\nHost: fw.example.com\r\n\r\n")))
	require.NoError(p.w.t, err)
	time.Sleep(p.time)
	answer := httptest.NewRecorder()
	p.w.serving.Load().Wrap(http.NotFoundHandler()).ServeHTTP(answer, req)
	body, _ := io.ReadAll(answer.Body)
	p.requests, p.got = append(p.requests, raw), append(p.got, body)
	return fsm.ResultDefault
}

// sampleWorld runs fn with the sample firmware of flownexus as the device.
func sampleWorld(t *testing.T, download time.Duration, fn func(*world, *firmwaretest.Device, *samplePull)) {
	inWorldThatServes(t, firmware.DeliveryConfig{PublicPrefix: "/binaries/"}, firmware.ManagerConfig{}, func(w *world) {
		pull := &samplePull{w: w, time: download}
		script := firmwaretest.FlownexusSample("")
		script.Pull = pull.pull
		fn(w, w.device(script), pull)
	})
}

// TestFlownexusSample updates the sample firmware with the profile for it, twice in a row. The URI
// is written once for each update, although the device answers the Write only after the download,
// even long after the server has given that answer up.
func TestFlownexusSample(t *testing.T) {
	for _, download := range []time.Duration{0, 30 * time.Second, 8 * time.Minute} {
		sampleWorld(t, download, func(w *world, device *firmwaretest.Device, pull *samplePull) {
			r := w.request()
			r.Profile, r.Verify = "fixed-host", fsm.VerifyResult
			for range 2 {
				u := w.update(r)
				w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonResult)
				require.Equal(t, fsm.ResultSuccess, u.Machine.Result)
				require.EqualValues(t, w.image.Size, u.Machine.Bytes)
				require.Equal(t, 1, u.Machine.Attempt)
			}
			require.Equal(t, []string{"uri /binaries/1.1.0.bin", "execute", "uri /binaries/1.1.0.bin", "execute"}, device.Log())
			require.Equal(t, []string{"GET //binaries/1.1.0.bin HTTP/1.0", "GET //binaries/1.1.0.bin HTTP/1.0"}, pull.requests)
			require.Equal(t, make([]byte, w.image.Size), pull.got[0])
			require.Equal(t, "1.0", device.Version())
		})
	}
}

// TestFlownexusSampleRestarts restarts the server in the middle of a download of the sample
// firmware: the update goes on, and the URI is not written again.
func TestFlownexusSampleRestarts(t *testing.T) {
	for _, download := range []time.Duration{3 * time.Minute, 8 * time.Minute, 20 * time.Minute} {
		sampleWorld(t, download, func(w *world, device *firmwaretest.Device, _ *samplePull) {
			r := w.request()
			r.Profile, r.Verify = "fixed-host", fsm.VerifyResult
			u := w.begin(r)
			w.phase(u.ID, fsm.PhaseTransferring)
			time.Sleep(time.Minute)
			w.restart(nil, nil)
			u = w.wait(u.ID, 2*time.Hour)
			w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonResult)
			require.Equal(t, []string{"uri /binaries/1.1.0.bin", "execute"}, device.Log(), "%s %s", download, w.journal(u.ID))
		})
	}
}

// TestFlownexusSampleSaysTheTruth asks for what the sample firmware cannot prove, or cannot do.
func TestFlownexusSampleSaysTheTruth(t *testing.T) {
	for name, test := range map[string]struct {
		request func(*firmware.Request)
		version string // of the image; "": 1.1.0
		outcome fsm.Outcome
		reason  fsm.Reason
	}{
		"its version never follows": {
			request: func(r *firmware.Request) { r.Profile = "fixed-host" },
			outcome: fsm.OutcomeFailed, reason: fsm.ReasonVersionMismatch,
		},
		"it runs 1.0 already": {
			request: func(r *firmware.Request) { r.Profile = "fixed-host" }, version: "1.0",
			outcome: fsm.OutcomeSucceeded, reason: fsm.ReasonAlreadyRunning,
		},
		"1.0 by force": {
			request: func(r *firmware.Request) { r.Profile, r.Force = "fixed-host", true }, version: "1.0",
			outcome: fsm.OutcomeSucceeded, reason: fsm.ReasonSameVersion,
		},
		"an absolute URI leads nowhere": {
			request: func(r *firmware.Request) { r.Protocol = fsm.ProtocolCoAP },
			outcome: fsm.OutcomeFailed, reason: fsm.ReasonVersionMismatch,
		},
	} {
		t.Run(name, func(t *testing.T) {
			sampleWorld(t, time.Second, func(w *world, device *firmwaretest.Device, pull *samplePull) {
				if test.version != "" {
					img, err := w.images.Add(w.ctx, store.Image{Name: "sensor", Version: test.version}, bytes.NewReader(make([]byte, 5000)))
					require.NoError(t, err)
					w.image = img
				}
				r := w.request()
				test.request(&r)
				u := w.update(r)
				w.ends(u, test.outcome, test.reason)
				require.Equal(t, "1.0", device.Version())
				if test.reason == fsm.ReasonVersionMismatch && r.Profile == "" {
					require.Equal(t, "404 page not found\n", string(pull.got[0]), "that is what it installed")
					require.NotContains(t, w.journal(u.ID), fsm.EventDownloadRequested)
				}
			})
		})
	}
}

// TestFlownexusSampleCancelled cancels while the device downloads, and when it has the package.
// Result 8, which it shows then, is no failure of the update that follows.
func TestFlownexusSampleCancelled(t *testing.T) {
	sampleWorld(t, 10*time.Minute, func(w *world, device *firmwaretest.Device, _ *samplePull) {
		r := w.request()
		r.Profile, r.Verify = "fixed-host", fsm.VerifyResult
		for _, wait := range []time.Duration{3 * time.Minute, 0} {
			if wait == 0 {
				r.Hold = fsm.Hold{Holder: "operator"}
			}
			u := w.begin(r)
			if wait > 0 {
				time.Sleep(wait)
			} else {
				w.phase(u.ID, fsm.PhaseTransferred)
			}
			_, err := w.mgr.Cancel(w.ctx, u.ID)
			require.NoError(t, err)
			u = w.wait(u.ID, time.Hour)
			w.ends(u, fsm.OutcomeCancelled, fsm.ReasonOperator)
			require.Equal(t, fsm.ResultCancelled, u.Machine.Result)
			require.Equal(t, fsm.MayStillNone, u.Machine.MayStill, "nothing was executed")
			time.Sleep(20 * time.Minute)
		}
		v, err := w.srv.Read(w.ctx, endpoint, lwm2m.NewPath(5, 0, 5))
		require.NoError(t, err)
		require.Equal(t, lwm2m.Integer(int64(fsm.ResultUpdateFailed)), v[0].Value)
		r.Hold = fsm.Hold{}
		w.ends(w.update(r), fsm.OutcomeSucceeded, fsm.ReasonResult)
		require.Equal(t, 1, count(device.Log(), "execute"))
	})
}
