package fsm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// putOff is the picture of a device that has deferred its update.
var putOff = picture{fsm.Downloaded, fsm.ResultDeferred, oldVersion, false}

// answered takes an update to an Execute that the device answers with code.
func answered(t *testing.T, plan fsm.Plan, code fsm.Code) *hand {
	h := transferring(plan)
	h.toAction(t, fsm.ActionExecute, downloaded)
	h.done(code, fsm.Reading{})
	return h
}

// TestDeferPeriods: an update that its device defers waits once for the period that the device
// names, or for that of the plan, within the deadline.
func TestDeferPeriods(t *testing.T) {
	for value, want := range map[time.Duration]time.Duration{
		0: time.Hour, -1: time.Hour, 1: 1, time.Minute: time.Minute, 24 * time.Hour: 24 * time.Hour, 25 * time.Hour: 24 * time.Hour,
	} {
		h := executed(fsm.Plan{Target: newVersion}, oldVersion)
		h.toAction(t, fsm.ActionRead, idle)
		r := h.shows(putOff)
		r.MaxDefer = fsm.Known(value)
		h.done(fsm.CodeContent, r)
		require.Equal(t, "read: state downloaded, result deferred, version \""+oldVersion+"\"\n"+
			"deferred: the device defers the update for up to "+want.String()+"\n", h.journal())
		require.Equal(t, fsm.PhaseTransferred, h.update.Phase)
		if want < 24*time.Hour {
			require.Equal(t, h.now.Add(want), h.update.Wait.Until)
		}
	}
	h := executed(fsm.Plan{Target: newVersion, Limits: fsm.Limits{Defer: 2 * time.Hour}}, oldVersion)
	h.toAction(t, fsm.ActionRead, idle)
	r := h.shows(putOff)
	r.MaxDefer = fsm.Refused[time.Duration](fsm.CodeNotFound)
	h.done(fsm.CodeContent, r)
	require.Equal(t, h.now.Add(2*time.Hour), h.update.Wait.Until)
	require.Equal(t, "then execute [after 2h0m0s]", h.until(putOff))
	h.done(fsm.CodeChanged, fsm.Reading{})
	h.reads(putOff)
	require.Contains(t, h.lines(), "deferred", "a second time")
	require.Equal(t, 5*time.Second, h.update.Wake().Sub(h.now), "the first of the pauses")

	// A period that ends while the update is held does not begin again.
	h = executed(fsm.Plan{Target: newVersion}, oldVersion)
	h.reads(putOff)
	h.step(fsm.Observation{Kind: fsm.ObserveHold, Hold: fsm.Hold{Holder: "operator"}})
	for h.update.Wait.Whose != fsm.WhoseOperator {
		h.reads(putOff)
	}
	h.reads(putOff)
	h.step(fsm.Observation{Kind: fsm.ObserveRelease, Hold: fsm.Hold{Holder: "operator"}})
	require.Equal(t, "then execute", h.until(putOff))

	// Execute clears the Result: a device that shows this has not refused, and gets its time to
	// begin.
	h.done(fsm.CodeChanged, fsm.Reading{})
	h.reads(downloaded)
	require.Equal(t, "device to start the update", h.update.Wait.Reason)

	// After a deferral, what was seen of the installation no longer counts.
	h = answered(t, fsm.Plan{Target: newVersion}, fsm.CodeNone)
	h.reads(updating)
	h.reads(putOff)
	h.step(fsm.Observation{Kind: fsm.ObserveCancel})
	require.Equal(t, fsm.MayStillUnknown, h.update.MayStill)
	h = executed(fsm.Plan{Target: newVersion}, oldVersion)
	h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
	h.reads(putOff)
	h.reads(idle)
	require.Equal(t, "device to restart", h.update.Wait.Reason, "it began by itself, and was not back since")
	h = executed(fsm.Plan{Target: newVersion}, oldVersion)
	h.reads(putOff)
	h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
	h.reads(idle)
	require.Equal(t, "second look, because the device came back with its old version", h.update.Wait.Reason)
}

// TestExecuteAnswered: what follows from each answer to Execute and from what the device shows
// then.
func TestExecuteAnswered(t *testing.T) {
	plan := fsm.Plan{Target: newVersion}
	kept := picture{fsm.Downloaded, fsm.ResultUpdateFailed, oldVersion, false}
	for code := range 256 {
		code := fsm.Code(code)
		h := answered(t, plan, code)
		h.reads(idle)
		refused := code != fsm.CodeNone && !code.OK()
		require.Equal(t, refused, h.update.Phase == fsm.PhasePreparing, code)
		if refused {
			require.Contains(t, h.journal(), "the device refused Execute and has lost the package")
			h = answered(t, plan, code)
			h.reads(updating)
			h.reads(idle)
			require.Equal(t, "device to restart", h.update.Wait.Reason, "it was seen updating all the same: %s", code)
			h = answered(t, plan, code)
			h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
			h.reads(idle)
			require.Contains(t, h.update.Wait.Reason, "came back with its old version", code)
		}
		// The package is still there.
		h = answered(t, plan, code)
		h.reads(downloaded)
		switch {
		case code == fsm.CodeNone:
			require.Equal(t, fsm.ActionExecute, h.update.Doing().Kind)
			require.Contains(t, h.journal(), "execute: the device has not started the update\n")
		case code.OK():
			require.Equal(t, "device to start the update", h.update.Wait.Reason)
			require.Contains(t, h.until(downloaded), "retry: the device answered "+code.String()+" to Execute and has not started")
			require.InDelta(t, 45, h.now.Sub(epoch).Seconds()-6, 12, "half a minute, and the pause")
		default:
			require.Contains(t, h.journal(), "retry: the device answered "+code.String()+" to Execute and has not started the update; next try in")
			require.Equal(t, fsm.PhaseTransferred, h.update.Phase)
		}
	}

	// The first update_failed with the package kept leads to another Execute. A second one ends the
	// update, unless nothing shows that it is new.
	h := answered(t, plan, fsm.CodeNone)
	h.reads(kept)
	require.Contains(t, h.journal(), "execute: the device reported result update_failed and still has the package; the server executes it once more\n")
	h.done(fsm.CodeNone, fsm.Reading{})
	h.reads(kept)
	require.Contains(t, h.journal(), "execute: the device has not started the update\n")
	h.done(fsm.CodeNone, fsm.Reading{})
	h.reads(picture{fsm.Updating, fsm.ResultUpdateFailed, oldVersion, false})
	require.Contains(t, h.until(kept), "FAILED (8), device_result [after 1m", "it was seen updating")
	require.Equal(t, fsm.ResultUpdateFailed, h.update.Result)

	// The device is back with the same version, and nothing shows that Execute arrived.
	forced := fsm.Plan{Target: oldVersion, Force: true}
	h = answered(t, forced, fsm.CodeNone)
	h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
	require.Contains(t, h.until(idle), "retry: the device registered again with the target version as before")

	// A success without Execute proves nothing in that case.
	h = transferring(forced)
	require.Contains(t, h.until(picture{fsm.Idle, fsm.ResultSuccess, oldVersion, false}),
		"settling: the device reports success without Execute, and runs the target version as before; the server watches it for 1m0s; FAILED (8), cannot_prove")

	// The server did not send Execute after all.
	h = transferring(plan)
	h.toAction(t, fsm.ActionExecute, downloaded)
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: h.update.Doing().ID, Fault: fsm.FaultNotSent, Detail: "held"})
	require.Equal(t, "not_sent: this server did not send Execute: held\n", h.journal())
	require.Equal(t, fsm.PhaseTransferred, h.update.Phase)
	h.step(fsm.Observation{Kind: fsm.ObserveHold, Hold: fsm.Hold{Holder: "x"}})
	require.NotContains(t, h.journal(), "Execute was sent before")
	h.step(fsm.Observation{Kind: fsm.ObserveRelease, Hold: fsm.Hold{Holder: "x"}})
	h.reads(downloaded)
	require.Contains(t, h.journal(), "execute: the device holds the package")
	h = executed(plan, oldVersion)
	h.toAction(t, fsm.ActionRead, idle)
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: h.update.Doing().ID, Fault: fsm.FaultNotSent})
	require.Equal(t, fsm.PhaseExecuting, h.update.Phase, "the read, not Execute")

	// A device that accepted Execute installs, until a read shows otherwise.
	h = executed(plan, oldVersion)
	h.step(fsm.Observation{Kind: fsm.ObserveCancel})
	require.Equal(t, fsm.MayStillInstall, h.update.MayStill)
	h.done(fsm.CodeContent, idle.reading())
	require.Equal(t, fsm.MayStillNone, h.update.MayStill)
}

// TestCannotReset: on a device that cannot be reset, a package counts only if the device fetched it
// from this server to its last byte, after it got the URI; the Result from before the transfer does
// not count.
func TestCannotReset(t *testing.T) {
	plan := fsm.Plan{Target: newVersion, Size: 1000, Profile: fsm.Profile{Reset: fsm.ResetNone}}
	written := func(plan fsm.Plan, p picture) *hand {
		h := started(plan)
		h.toAction(t, fsm.ActionWriteURI, p)
		h.done(fsm.CodeChanged, fsm.Reading{})
		return h
	}
	for result := fsm.ResultNoStorage; result <= 13; result++ {
		for _, p := range []picture{downloaded, downloading} {
			h := written(plan, p)
			h.reads(picture{fsm.Idle, result, oldVersion, false})
			require.Equal(t, result, h.update.Reported, "it is new: %s", p.state)
		}
	}
	for _, size := range []int64{0, 1, 1000} {
		plan := plan
		plan.Size = size
		for _, bytes := range []int64{0, 1, 999, 1000} {
			h := written(plan, downloaded)
			h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: bytes})
			said := h.until(downloaded)
			switch {
			case size > 0 && bytes >= size:
				require.Equal(t, "then execute", said, "%d of %d", bytes, size)
			case bytes > 0:
				require.Contains(t, said, "retry: the device has not fetched the package to its end", "%d of %d", bytes, size)
			default:
				require.Contains(t, said, "FAILED (8), cannot_prove [after 5m")
			}
		}
	}
	h := written(plan, downloaded)
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	require.Empty(t, h.journal())
	h.step(fsm.Observation{Kind: fsm.ObservePackageFetched})
	require.Equal(t, "package_fetched: the program reports that the device fetched the package\n", h.journal())
	require.EqualValues(t, 1000, h.update.Bytes)
	require.Equal(t, "then execute", h.until(downloaded))
	for _, o := range []fsm.Observation{{Kind: fsm.ObserveRegistered}, {Kind: fsm.ObserveResumed, Online: true}} {
		h = written(plan, downloaded)
		h.step(o)
		require.Contains(t, h.until(downloaded), "retry: the device has not fetched", o.Kind)
	}
}

// TestWayReasons: which ways are possible, and which reason says why there is none.
func TestWayReasons(t *testing.T) {
	coap, http := fsm.ProtocolCoAP, fsm.ProtocolHTTP
	none := []fsm.Protocol{}
	for _, tt := range []struct {
		delivery fsm.DeliveryMode
		protocol fsm.Protocol
		profile  fsm.Profile
		method   fsm.DeliverySupport // -1: 5/0/9 is absent
		listed   []fsm.Protocol      // nil: 5/0/8 is absent
		offers   []fsm.Protocol
		want     string
	}{
		{"", "", fsm.Profile{}, fsm.PushAndPull, none, none, "then push"},
		{"", "", fsm.Profile{}, fsm.PushOnly, none, none, "then push"},
		{"", "", fsm.Profile{}, -1, nil, []fsm.Protocol{http, coap}, "then write_uri coap"},
		{"", "", fsm.Profile{}, -1, nil, []fsm.Protocol{http}, "FAILED (9), no_delivery"},
		{"", "", fsm.Profile{}, -1, nil, none, "FAILED (9), not_served"},
		{"", "", fsm.Profile{}, 5, nil, []fsm.Protocol{coap}, "then write_uri coap"},
		{"", "", fsm.Profile{}, fsm.PullOnly, []fsm.Protocol{http}, []fsm.Protocol{coap, http}, "then write_uri http"},
		{"", "", fsm.Profile{}, fsm.PullOnly, []fsm.Protocol{fsm.ProtocolCoAPS}, []fsm.Protocol{coap, http}, "FAILED (9), no_delivery"},
		{"", "", fsm.Profile{Protocols: []fsm.Protocol{http}}, fsm.PullOnly, nil, []fsm.Protocol{coap, http}, "then write_uri http"},
		{"push", "", fsm.Profile{}, -1, nil, none, "then push"},
		{"push", "", fsm.Profile{}, fsm.PullOnly, nil, []fsm.Protocol{coap}, "FAILED (9), no_delivery"},
		{"pull", "", fsm.Profile{}, fsm.PushOnly, nil, []fsm.Protocol{coap}, "FAILED (9), no_delivery"},
		{"pull", "", fsm.Profile{}, fsm.PushAndPull, nil, []fsm.Protocol{coap}, "then write_uri coap"},
		{"pull", "", fsm.Profile{}, -1, nil, []fsm.Protocol{coap}, "then write_uri coap"},
		{"", http, fsm.Profile{}, fsm.PushAndPull, nil, []fsm.Protocol{coap, http}, "then write_uri http"},
		{"", http, fsm.Profile{}, fsm.PushAndPull, []fsm.Protocol{coap}, []fsm.Protocol{coap, http}, "FAILED (9), no_delivery"},
		{"", http, fsm.Profile{}, fsm.PushAndPull, []fsm.Protocol{http}, []fsm.Protocol{coap}, "FAILED (9), not_served"},
		{"", http, fsm.Profile{}, fsm.PushOnly, nil, []fsm.Protocol{http}, "FAILED (9), no_delivery"},
		{"", "", fsm.Profile{PathOnly: true}, fsm.PushAndPull, nil, none, "then write_uri http"},
		{"", "", fsm.Profile{PathOnly: true, Protocols: []fsm.Protocol{coap, http}}, fsm.PullOnly, nil, none, "then write_uri coap"},
		{"", coap, fsm.Profile{PathOnly: true}, fsm.PullOnly, nil, none, "then write_uri coap"},
		{"", "", fsm.Profile{PathOnly: true}, fsm.PushOnly, nil, none, "FAILED (9), no_delivery"},
		{"", "", fsm.Profile{Delivery: fsm.DeliveryPull}, fsm.PushAndPull, nil, []fsm.Protocol{coap}, "then write_uri coap"},
		{"", "", fsm.Profile{Delivery: fsm.DeliveryPush}, fsm.PushAndPull, nil, []fsm.Protocol{coap}, "then push"},
	} {
		h := started(fsm.Plan{Target: newVersion, Size: 1000, Delivery: tt.delivery, Protocol: tt.protocol, Profile: tt.profile})
		h.toAction(t, fsm.ActionRead, idle)
		r := idle.reading()
		r.Delivery, r.Protocols, r.Offers = fsm.Known(tt.method), fsm.Known(tt.listed), tt.offers
		if tt.method < 0 {
			r.Delivery = fsm.Refused[fsm.DeliverySupport](fsm.CodeNotFound)
		}
		if tt.listed == nil {
			r.Protocols = fsm.Refused[[]fsm.Protocol](fsm.CodeNotFound)
		}
		h.done(fsm.CodeContent, r)
		require.Equal(t, tt.want, h.until(idle), "%+v", tt)
		if tt.method == fsm.PushOnly && tt.want[0] == 'F' && !tt.profile.PathOnly {
			require.Contains(t, h.journal(), "pull was asked for, but the device only takes pushes (5/0/9)")
		}
	}

	// The device does not support the protocol that its path implies.
	h := transferring(fsm.Plan{Target: newVersion, Profile: fsm.Profile{PathOnly: true}})
	h.reads(picture{fsm.Idle, fsm.ResultUnsupProtocol, oldVersion, false})
	require.Equal(t, fsm.ReasonDeviceResult, h.update.Reason)
	h = writing(t, fsm.Plan{Target: newVersion, Profile: fsm.Profile{PathOnly: true}})
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: h.update.Doing().ID, Fault: fsm.FaultURI})
	require.Equal(t, fsm.ReasonNotServed, h.update.Reason)

	// The journal says why the update changes the way.
	lost := picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false}
	h = started(fsm.Plan{Target: newVersion, Size: 1000})
	h.method = fsm.PushAndPull
	for range 2 {
		h.toAction(t, fsm.ActionPush, idle)
		h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 10})
		h.done(fsm.CodeNone, fsm.Reading{})
		h.reads(lost)
	}
	h.toAction(t, fsm.ActionWriteURI, idle)
	require.Contains(t, h.journal(), "pull by coap, in 5/0/8; the attempts by push did not reach their end\n")

	// An attempt that brought the package does not count as a failure of its way.
	h = transferring(fsm.Plan{Target: newVersion, Size: 1000})
	h.toAction(t, fsm.ActionExecute, downloaded)
	h.done(fsm.CodeChanged, fsm.Reading{})
	h.reads(lost)
	h.toAction(t, fsm.ActionWriteURI, idle)
	require.Equal(t, fsm.ProtocolCoAP, h.update.Protocol)
	h.done(fsm.CodeChanged, fsm.Reading{})
	h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 10})
	h.reads(lost)
	h.toAction(t, fsm.ActionWriteURI, idle)
	require.Equal(t, fsm.ProtocolCoAP, h.update.Protocol)
}

// TestPublicPathProvesNothing refuses a Package URI whose path is public: any client can request
// it.
func TestPublicPathProvesNothing(t *testing.T) {
	for pathOnly, want := range map[bool]string{true: "nothing proves that it is this one", false: "then execute"} {
		h := writing(t, fsm.Plan{Target: newVersion, Profile: fsm.Profile{PathOnly: pathOnly}})
		h.step(fsm.Observation{Kind: fsm.ObserveDownloadRequested, Detail: "a request came by http"})
		h.done(fsm.CodeBadRequest, fsm.Reading{})
		require.Contains(t, h.until(picture{fsm.Downloaded, fsm.ResultDefault, oldVersion, false}), want)
	}
}
