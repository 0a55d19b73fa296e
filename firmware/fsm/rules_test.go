package fsm_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// TestStoredResult: the stored Result is the one that the device reported, if that fits;
// connection_lost is never made up.
func TestStoredResult(t *testing.T) {
	refuses := func(plan fsm.Plan) *hand {
		h := started(plan)
		h.method = fsm.PushAndPull
		for h.update.Active() {
			if h.until(idle); h.update.Active() {
				h.done(fsm.CodeBadRequest, fsm.Reading{})
			}
		}
		return h
	}
	for _, delivery := range []fsm.DeliveryMode{fsm.DeliveryPush, fsm.DeliveryPull} {
		h := refuses(fsm.Plan{Target: newVersion, Size: 1000, Delivery: delivery})
		require.Equal(t, fsm.ReasonAttempts, h.update.Reason)
		require.Equal(t, fsm.ResultUpdateFailed, h.update.Result, "invariant 3: %s was refused", delivery)
		require.Equal(t, fsm.DefaultAttempts, h.update.Attempt)
	}

	reported := func(results ...fsm.Result) *hand {
		h := started(fsm.Plan{Target: newVersion, Size: 1000, Attempts: len(results)})
		for _, result := range results {
			h.until(idle)
			if h.update.Doing().Kind == fsm.ActionReset {
				h.done(fsm.CodeChanged, fsm.Reading{})
				h.until(idle)
			}
			require.Equal(t, fsm.ActionWriteURI, h.update.Doing().Kind)
			h.done(fsm.CodeChanged, fsm.Reading{})
			h.until(picture{fsm.Idle, result, oldVersion, false})
		}
		return h
	}
	for result, want := range map[fsm.Result]fsm.Result{
		fsm.ResultConnectionLost: fsm.ResultConnectionLost, fsm.ResultOutOfMemory: fsm.ResultOutOfMemory,
		fsm.ResultCancelled: fsm.ResultUpdateFailed, fsm.ResultDeferred: fsm.ResultUpdateFailed, 99: fsm.ResultUpdateFailed,
		-1: fsm.ResultUpdateFailed, 13: fsm.ResultUpdateFailed,
	} {
		h := reported(result)
		require.Equal(t, fsm.OutcomeFailed, h.update.Outcome, result)
		require.Equal(t, want, h.update.Result, result)
		require.Equal(t, result, h.update.Reported)
	}

	// After a time-out, it is the last failure that the device reported in the update.
	h := started(fsm.Plan{Target: newVersion, Size: 1000, Deadline: time.Hour})
	h.until(idle)
	h.done(fsm.CodeChanged, fsm.Reading{})
	h.reads(picture{fsm.Idle, fsm.ResultOutOfMemory, oldVersion, false})
	h.until(idle)
	h.done(fsm.CodeChanged, fsm.Reading{})
	for h.update.Active() {
		h.until(downloading)
	}
	require.Equal(t, fsm.OutcomeTimedOut, h.update.Outcome)
	require.Equal(t, fsm.ResultOutOfMemory, h.update.Result)

	// If the device is away or unanswering it is 4, otherwise 8.
	for name, tt := range map[string]struct {
		last fsm.Observation
		want fsm.Result
	}{
		"answers":      {fsm.Observation{Kind: fsm.ObserveTimer}, fsm.ResultUpdateFailed},
		"away":         {fsm.Observation{Kind: fsm.ObserveAway}, fsm.ResultConnectionLost},
		"asleep":       {fsm.Observation{Kind: fsm.ObserveAsleep}, fsm.ResultConnectionLost},
		"left unheard": {fsm.Observation{Kind: fsm.ObserveSilent}, fsm.ResultConnectionLost},
	} {
		h := transferring(fsm.Plan{Target: newVersion, Size: 1000, Deadline: time.Hour})
		h.reads(downloading)
		for h.update.Doing().Kind != fsm.ActionRead {
			h.now = h.update.Wake()
			h.step(fsm.Observation{Kind: fsm.ObserveTimer})
		}
		tt.last.Action = h.update.Doing().ID
		h.step(tt.last)
		h.now = h.update.Deadline
		h.step(fsm.Observation{Kind: fsm.ObserveTimer})
		require.Equal(t, fsm.OutcomeTimedOut, h.update.Outcome, name)
		require.Equal(t, tt.want, h.update.Result, name)
	}
}

// TestWays makes attempts fail in different ways. One that moved bytes is repeated the same way
// once. After one that moved none, or the second in a row, the next allowed way follows.
func TestWays(t *testing.T) {
	next := func(h *hand, bytes int64) string {
		h.until(idle)
		if h.update.Doing().Kind == fsm.ActionReset {
			h.done(fsm.CodeChanged, fsm.Reading{})
			h.until(idle)
		}
		if !h.update.Active() {
			return "ended"
		}
		way := string(h.update.Doing().Kind) + " " + string(h.update.Protocol)
		if bytes > 0 {
			h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: bytes})
		}
		code := fsm.CodeChanged
		if h.update.Doing().Kind == fsm.ActionPush {
			code = fsm.CodeNone // the push breaks off
		}
		h.done(code, fsm.Reading{})
		h.reads(picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false})
		return way
	}
	run := func(plan fsm.Plan, method fsm.DeliverySupport, bytes ...int64) string {
		plan.Target, plan.Size, plan.Attempts = newVersion, 1000, len(bytes)+1
		h := started(plan)
		h.method = method
		var ways []string
		for _, n := range bytes {
			ways = append(ways, strings.TrimSpace(next(h, n)))
		}
		return strings.Join(ways, ", ")
	}
	none := []int64{0, 0, 0, 0}
	require.Equal(t, "push, write_uri coap, write_uri http, push", run(fsm.Plan{}, fsm.PushAndPull, none...))
	require.Equal(t, "write_uri coap, write_uri http, push, write_uri coap",
		run(fsm.Plan{Profile: fsm.Profile{Delivery: fsm.DeliveryPull}}, fsm.PushAndPull, none...))
	require.Equal(t, "write_uri coap, write_uri http, write_uri coap, write_uri http", run(fsm.Plan{}, fsm.PullOnly, none...))
	require.Equal(t, "push, push, push, push", run(fsm.Plan{}, fsm.PushOnly, none...))
	require.Equal(t, "push, push, push, push", run(fsm.Plan{Delivery: fsm.DeliveryPush}, fsm.PushAndPull, none...))
	require.Equal(t, "write_uri http, write_uri http", run(fsm.Plan{Protocol: fsm.ProtocolHTTP}, fsm.PushAndPull, none[:2]...))
	require.Equal(t, "write_uri coap, write_uri http, write_uri coap", run(fsm.Plan{Delivery: fsm.DeliveryPull}, fsm.PushAndPull, none[:3]...))

	require.Equal(t, "write_uri coap, write_uri coap, write_uri http, write_uri coap", run(fsm.Plan{}, fsm.PullOnly, 10, 10, 0, 10))
	require.Equal(t, "write_uri coap, write_uri coap, write_uri http, write_uri http, write_uri coap", run(fsm.Plan{}, fsm.PullOnly, 10, 20, 30, 40, 50))

	h := started(fsm.Plan{Target: newVersion, Size: 1000})
	next(h, 0)
	h.until(picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false})
	h.done(fsm.CodeChanged, fsm.Reading{})
	h.until(idle)
	require.Contains(t, h.journal(), "the attempt by coap moved no byte")

	// A restart of the server does not count as a failure of the way.
	h = started(fsm.Plan{Target: newVersion, Size: 1000})
	h.until(idle)
	h.step(fsm.Observation{Kind: fsm.ObserveResumed, Online: true})
	require.Contains(t, h.until(idle), "then write_uri coap")
	require.Equal(t, 2, h.update.Attempt)
}

// TestRefusedByMethod ends an update at once if 5/0/9 rules out its delivery, whatever the device
// is doing.
func TestRefusedByMethod(t *testing.T) {
	for _, p := range []picture{idle, downloading, downloaded, updating} {
		for wish, method := range map[fsm.DeliveryMode]fsm.DeliverySupport{fsm.DeliveryPush: fsm.PullOnly, fsm.DeliveryPull: fsm.PushOnly} {
			h := started(fsm.Plan{Target: newVersion, Delivery: wish})
			h.method = method
			require.Equal(t, "FAILED (9), no_delivery", h.until(p), "%s in %s", wish, p.state)
		}
	}
}

// TestTooLarge: after a device has named the largest body that it takes, the server never pushes a
// larger one.
func TestTooLarge(t *testing.T) {
	push := func(delivery fsm.DeliveryMode, method fsm.DeliverySupport, limit int64) (*hand, string) {
		h := started(fsm.Plan{Target: newVersion, Size: 1000, Delivery: delivery})
		h.method = method
		h.until(idle)
		h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: h.update.Doing().ID, Code: fsm.CodeTooLarge, Limit: limit})
		return h, h.until(idle)
	}
	_, said := push(fsm.DeliveryAuto, fsm.PushAndPull, 999)
	require.Contains(t, said, "then write_uri coap")
	h, said := push(fsm.DeliveryPush, fsm.PushAndPull, 999)
	require.Contains(t, said, "FAILED (8), refused")
	require.Equal(t, 1, h.update.Attempt)
	_, said = push(fsm.DeliveryAuto, fsm.PushOnly, 1)
	require.Contains(t, said, "FAILED (8), refused")
	// The same after a Result of the device.
	h = started(fsm.Plan{Target: newVersion, Size: 1000, Delivery: fsm.DeliveryPush})
	h.method = fsm.PushAndPull
	h.until(idle)
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: h.update.Doing().ID, Code: fsm.CodeTooLarge, Limit: 999})
	h.reads(picture{fsm.Idle, fsm.ResultOutOfMemory, oldVersion, false})
	require.True(t, h.update.Active())
	require.Equal(t, "FAILED (3), refused", strings.Split(h.until(idle), " [")[0])
	for _, limit := range []int64{0, 1000, 8192} {
		_, said = push(fsm.DeliveryPush, fsm.PushAndPull, limit)
		require.Contains(t, said, "then push", "it may have been something else: %d", limit)
	}
}

// TestStalledPush makes a push stand still: the journal and Wait say why within half a minute,
// once.
func TestStalledPush(t *testing.T) {
	h := pushing(t, fsm.Plan{Target: newVersion, Size: 1000})
	id := h.update.Doing().ID
	require.Equal(t, "push to finish", h.update.Wait.Reason)
	h.step(fsm.Observation{Kind: fsm.ObserveBusy, Action: id})
	require.Contains(t, h.journal(), "busy: the device is busy (5.03)")
	require.Contains(t, h.update.Wait.Reason, "is busy")
	h.step(fsm.Observation{Kind: fsm.ObserveBusy, Action: id})
	require.Empty(t, h.journal())
	h.step(fsm.Observation{Kind: fsm.ObserveHeard, Action: id})
	require.Contains(t, h.journal(), fsm.EventDeviceAnswers+": ")
	require.Equal(t, "push to finish", h.update.Wait.Reason)

	h.step(fsm.Observation{Kind: fsm.ObserveSilent, Action: id})
	silent := h.now
	require.Empty(t, h.journal(), "one lost block is nothing")
	h.now = h.update.Wake()
	require.LessOrEqual(t, h.now.Sub(silent), 30*time.Second)
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	require.Contains(t, h.journal(), "device_silent: the device has not answered for 20s")
	require.Contains(t, h.update.Wait.Reason, "does not answer")
	h.now = h.now.Add(time.Minute)
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	require.Empty(t, h.journal())
	h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 500})
	require.Contains(t, h.journal(), fsm.EventDeviceAnswers+": ")
	require.Equal(t, "push to finish", h.update.Wait.Reason)
}

// TestVersions reads versions, before and after the update.
func TestVersions(t *testing.T) {
	after := func(version fsm.Field[string], result fsm.Result) *hand {
		h := executed(fsm.Plan{Target: newVersion}, oldVersion)
		h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
		for h.update.Active() {
			switch h.update.Doing().Kind {
			case fsm.ActionNone:
				h.now = h.update.Wake()
				h.step(fsm.Observation{Kind: fsm.ObserveTimer})
			default:
				r := picture{fsm.Idle, result, "", false}.reading()
				r.Version = version
				h.done(fsm.CodeContent, r)
			}
		}
		return h
	}
	for _, tt := range []struct {
		raw    string
		reason fsm.Reason
	}{
		{newVersion, fsm.ReasonVersion}, {newVersion + "\x00", fsm.ReasonVersion}, {newVersion + "\x00\x00\x00", fsm.ReasonVersion},
		{" " + newVersion + "  ", fsm.ReasonVersion}, {"\t" + newVersion + " \x00", fsm.ReasonVersion}, {newVersion + "\r\n", fsm.ReasonVersion},
		{"", fsm.ReasonResult}, {"\x00", fsm.ReasonResult}, {"   ", fsm.ReasonResult},
		{oldVersion, fsm.ReasonVersionMismatch}, {newVersion + "0", fsm.ReasonVersionMismatch}, {"\xff\xfe\x00", fsm.ReasonVersionMismatch},
		{newVersion + "\xff", fsm.ReasonVersionMismatch}, {strings.Repeat("1", 905), fsm.ReasonVersionMismatch},
		{newVersion + "\x00" + newVersion, fsm.ReasonVersionMismatch}, {"1.1\x07.0", fsm.ReasonVersionMismatch},
		{"\x00" + newVersion, fsm.ReasonVersionMismatch},
	} {
		h := after(fsm.Known(tt.raw), fsm.ResultSuccess)
		require.Equal(t, tt.reason, h.update.Reason, "%q", tt.raw)
		require.Equal(t, tt.reason != fsm.ReasonVersionMismatch, h.update.Outcome == fsm.OutcomeSucceeded)
		require.LessOrEqual(t, len(h.update.Version), 255)
	}
	for _, code := range []fsm.Code{fsm.CodeNotFound, fsm.CodeMethodNotAllowed, fsm.CodeInternalError} {
		require.Equal(t, fsm.ReasonResult, after(fsm.Refused[string](code), fsm.ResultSuccess).update.Reason)
	}

	// Blanks do not hide that the device already runs the version.
	h := started(fsm.Plan{Target: newVersion})
	require.Equal(t, "SUCCEEDED (1), already_running", h.until(picture{fsm.Idle, 0, newVersion + " \x00", false}))
	require.Equal(t, newVersion, h.update.Version)
	// An image's version may have blanks of its own.
	h = started(fsm.Plan{Target: " " + newVersion})
	require.Equal(t, "SUCCEEDED (1), already_running", h.until(picture{fsm.Idle, 0, newVersion, false}))
}

// TestNoObject: the second read ends the update of a device without a usable Object 5, unless
// something was written before.
func TestNoObject(t *testing.T) {
	unusable := func(version string) map[string]fsm.Reading {
		v := fsm.Known(version)
		return map[string]fsm.Reading{
			"no_firmware_object 4.04": {State: fsm.Refused[fsm.State](fsm.CodeNotFound), Version: v},
			"no_firmware_object 4.05": {State: fsm.Refused[fsm.State](fsm.CodeMethodNotAllowed), Version: v},
			"bad_state 43":            {State: fsm.Known(fsm.State(43)), Version: v},
			"bad_state -1":            {State: fsm.Known(fsm.State(-1)), Version: v},
			"bad_state 4":             {State: fsm.Known(fsm.State(4)), Version: v},
		}
	}
	show := func(h *hand, r fsm.Reading, reads int) {
		for n := 0; n < reads && h.update.Active(); {
			switch h.update.Doing().Kind {
			case fsm.ActionNone:
				h.now = h.update.Wake()
				h.step(fsm.Observation{Kind: fsm.ObserveTimer})
			case fsm.ActionRead:
				n++
				h.done(fsm.CodeContent, r)
			default:
				h.done(fsm.CodeContent, fsm.Reading{})
			}
		}
	}
	for name, r := range unusable(oldVersion) {
		h := started(fsm.Plan{Target: newVersion})
		show(h, r, 2)
		require.True(t, strings.HasPrefix(name, string(h.update.Reason)+" "), "%s: %s", name, h.update.Reason)
		require.Equal(t, fsm.ResultUpdateFailed, h.update.Result)
		require.Less(t, h.now.Sub(epoch), time.Minute)

		// A good read in between resets the count.
		h = started(fsm.Plan{Target: newVersion})
		show(h, r, 1)
		require.Contains(t, h.until(idle), "then write_uri")

		// After the write it means nothing.
		h = transferring(fsm.Plan{Target: newVersion})
		show(h, r, 10)
		require.True(t, h.update.Active(), name)
		h = executed(fsm.Plan{Target: newVersion}, oldVersion)
		h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
		show(h, r, 1000)
		require.Equal(t, fsm.OutcomeRolledBack, h.update.Outcome, "%s: it is back with its old version", name)
		require.GreaterOrEqual(t, h.now.Sub(h.update.Created), 15*time.Minute)
	}
	for name, r := range unusable(newVersion) {
		h := started(fsm.Plan{Target: newVersion})
		show(h, r, 2)
		require.Equal(t, fsm.ReasonAlreadyRunning, h.update.Reason, name)
		h = started(fsm.Plan{Target: newVersion, Force: true})
		show(h, r, 2)
		require.Equal(t, fsm.OutcomeFailed, h.update.Outcome, name)
		h = executed(fsm.Plan{Target: newVersion}, oldVersion)
		h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
		show(h, r, 1)
		require.Equal(t, fsm.ReasonVersion, h.update.Reason, "%s: a new firmware without the object", name)
		h = executed(fsm.Plan{Target: newVersion, Force: true}, newVersion)
		h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
		show(h, r, 1)
		require.True(t, h.update.Active(), "%s: the same version proves nothing", name)
	}
}

// TestDowntime restarts the server with a wrong clock, and after a long time: limits do not change,
// the deadline hardly.
func TestDowntime(t *testing.T) {
	h := transferring(fsm.Plan{Target: newVersion})
	h.reads(downloading)
	deadline := h.update.Deadline
	h.now = h.now.Add(365 * 24 * time.Hour)
	h.step(fsm.Observation{Kind: fsm.ObserveResumed, Online: true})
	require.True(t, h.update.Active())
	require.Equal(t, deadline.Add(365*24*time.Hour-10*time.Minute), h.update.Deadline)
	h.until(downloaded)
	require.True(t, h.update.Active(), "no limit has struck: %s", h.update.Reason)
	require.Equal(t, fsm.ActionExecute, h.update.Doing().Kind)

	h = transferring(fsm.Plan{Target: newVersion})
	deadline = h.update.Deadline
	for range 5 {
		h.now = h.now.Add(fsm.DowntimeCounts)
		h.step(fsm.Observation{Kind: fsm.ObserveResumed, Online: true})
	}
	require.Equal(t, deadline, h.update.Deadline, "short ones count")

	seen := h.update.Now()
	h.now = h.now.Add(-1000 * time.Hour)
	h.step(fsm.Observation{Kind: fsm.ObserveResumed, Online: true})
	require.Equal(t, seen, h.update.Now(), "it never goes back")
}

// TestHolds covers the kinds of holds.
func TestHolds(t *testing.T) {
	hold := func(h *hand, holder string, until time.Time) {
		h.step(fsm.Observation{Kind: fsm.ObserveHold, Hold: fsm.Hold{Holder: holder, Reason: "because", Until: until}})
	}
	release := func(h *hand, holder string) {
		h.step(fsm.Observation{Kind: fsm.ObserveRelease, Hold: fsm.Hold{Holder: holder}})
	}
	held := func(until time.Time) *hand {
		h := transferring(fsm.Plan{Target: newVersion, Deadline: time.Hour, Attempts: 1})
		hold(h, "operator", until)
		h.reads(downloaded)
		require.Equal(t, fsm.PhaseTransferred, h.update.Phase)
		require.Equal(t, fsm.WhoseOperator, h.update.Wait.Whose)
		return h
	}
	// A hold of a hundred hours costs nothing, and after it the update goes on at once.
	h := held(time.Time{})
	for range 100 {
		h.reads(downloaded)
	}
	require.Equal(t, fsm.ActionNone, h.update.Doing().Kind)
	require.Greater(t, h.now.Sub(epoch), 90*time.Hour)
	release(h, "somebody else")
	require.Empty(t, h.journal())
	release(h, "operator")
	require.Contains(t, h.until(downloaded), "then execute")

	// This hold ends by itself; one of another holder does not.
	h = held(epoch.Add(5 * time.Hour))
	hold(h, "window", time.Time{})
	h.now = epoch.Add(6 * time.Hour)
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	require.Contains(t, h.journal(), "held by window")
	require.Len(t, h.update.Holds, 1)
	release(h, "window")
	require.Contains(t, h.until(downloaded), "then execute")

	// The device loses the package, and gets it again after the release; that does not use up the
	// only attempt.
	h = held(time.Time{})
	h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
	h.reads(idle)
	require.Equal(t, fsm.ActionNone, h.update.Doing().Kind)
	release(h, "operator")
	require.Contains(t, h.until(idle), "then write_uri")
	require.Equal(t, 2, h.update.Attempt)
	h.done(fsm.CodeChanged, fsm.Reading{})
	require.Contains(t, h.until(downloaded), "then execute")

	// A failure that the device reports counts, even while the update is held.
	h = held(time.Time{})
	h.reads(picture{fsm.Idle, fsm.ResultIntegrityFailed, oldVersion, false})
	require.Equal(t, fsm.OutcomeFailed, h.update.Outcome)
	require.Empty(t, h.update.Holds, "nothing holds an update that has ended")

	// A hold replaces that of the same holder. The number of holds is limited, and invalid holds
	// are ignored.
	h = held(time.Time{})
	hold(h, "operator", h.now.Add(time.Hour))
	require.Len(t, h.update.Holds, 1)
	for i := range 20 {
		hold(h, strings.Repeat("x", i+1), time.Time{})
	}
	require.Len(t, h.update.Holds, fsm.MaxHolds)
	hold(h, "late", h.now)
	hold(h, "", time.Time{})
	hold(h, "\x00", time.Time{})
	require.Len(t, h.update.Holds, fsm.MaxHolds)

	// A hold does not stop an update that has executed, and the journal says so.
	h = executed(fsm.Plan{Target: newVersion}, oldVersion)
	hold(h, "operator", time.Time{})
	require.Contains(t, h.journal(), "Execute was sent before")

	// A device that installs by itself gets no package while the update is held.
	h = started(fsm.Plan{Target: newVersion})
	h.auto = true
	hold(h, "operator", time.Time{})
	h.reads(idle)
	require.Equal(t, fsm.ActionNone, h.update.Doing().Kind)
	require.Equal(t, fsm.WhoseOperator, h.update.Wait.Whose)
	release(h, "operator")
	require.Contains(t, h.until(idle), "then write_uri")
}

// TestNeverReturns executes on a device that does not come back, awake or asleep: the restart limit
// ends the update, in queue mode plus the lifetime.
func TestNeverReturns(t *testing.T) {
	const lifetime = 10 * time.Hour
	ends := func(o ...fsm.Observation) time.Duration {
		h := executed(fsm.Plan{Target: newVersion, Deadline: 100 * time.Hour}, oldVersion)
		from := h.now
		for _, o := range o {
			h.step(o)
		}
		for h.update.Active() {
			if h.update.Doing().Kind != fsm.ActionNone {
				h.done(fsm.CodeNone, fsm.Reading{})
				continue
			}
			h.now = h.update.Wake()
			h.step(fsm.Observation{Kind: fsm.ObserveTimer})
		}
		require.Equal(t, fsm.OutcomeTimedOut, h.update.Outcome)
		require.Equal(t, fsm.ResultConnectionLost, h.update.Result)
		return h.now.Sub(from)
	}
	queue := fsm.Observation{Kind: fsm.ObserveUpdated, Queue: true, Lifetime: lifetime}
	asleep, away := fsm.Observation{Kind: fsm.ObserveAsleep}, fsm.Observation{Kind: fsm.ObserveAway}
	require.Equal(t, time.Hour, ends(away))
	require.Equal(t, time.Hour+lifetime, ends(queue, asleep))
	require.Equal(t, time.Hour+lifetime, ends(queue, asleep, away))
	require.LessOrEqual(t, ends(), time.Hour+time.Minute, "it does not answer")

	// A device that wakes from time to time, and has not restarted, does not count as lost while it
	// sleeps.
	h := executed(fsm.Plan{Target: newVersion, Deadline: 1000 * time.Hour}, oldVersion)
	h.step(queue)
	for range 10 {
		h.step(asleep)
		h.now = h.now.Add(9 * time.Hour)
		h.step(fsm.Observation{Kind: fsm.ObserveAwake})
		require.True(t, h.update.Active())
		h.reads(updating)
	}
}

// TestBlame: the journal says what the server saw of a download that failed.
func TestBlame(t *testing.T) {
	h := transferring(fsm.Plan{Target: newVersion, Size: 1000})
	said := h.until(picture{fsm.Idle, fsm.ResultInvalidURI, oldVersion, false})
	require.Contains(t, said, "the device has not requested the package from this server")

	h = transferring(fsm.Plan{Target: newVersion, Size: 1000})
	for range 3 {
		h.step(fsm.Observation{Kind: fsm.ObserveConnectionFailed, Detail: "tls: bad certificate"})
	}
	require.Empty(t, h.journal(), "it is said once")
	said = h.until(picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false})
	require.Contains(t, said, "tls: bad certificate")

	h = transferring(fsm.Plan{Target: newVersion, Size: 1000})
	h.step(fsm.Observation{Kind: fsm.ObserveDownloadRequested, Detail: "a request came by http"})
	require.Contains(t, h.journal(), "download_requested: a request came by http")
	said = h.until(picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false})
	require.Contains(t, said, "the server sent no byte of it")
	h.until(idle)
	h.done(fsm.CodeChanged, fsm.Reading{})
	h.until(idle)
	h.done(fsm.CodeChanged, fsm.Reading{})
	h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 700})
	said = h.until(picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false})
	require.Contains(t, said, "700 of 1000 bytes")
}
