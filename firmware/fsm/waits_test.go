package fsm_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// waitSentences are the constants of waits.go, which doc/troubleshooting.md explains.
var waitSentences = sync.OnceValue(func() (found []string) {
	source, err := os.ReadFile("waits.go")
	if err != nil {
		panic(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\twait\w+ += "(.*)"$`).FindAllStringSubmatch(string(source), -1) {
		found = append(found, m[1])
	}
	return found
})

func isWaitSentence(reason string) bool {
	return slices.ContainsFunc(waitSentences(), func(s string) bool {
		return reason == s || (strings.HasSuffix(s, " ") || s == "hold to be released") && strings.HasPrefix(reason, s)
	})
}

// TestWaits: in each situation an update says what it waits for, whose time that is, and until
// when.
func TestWaits(t *testing.T) {
	plan := fsm.Plan{Target: newVersion, Size: 1000}
	after := func(d time.Duration) func(h *hand) time.Time { return func(h *hand) time.Time { return h.now.Add(d) } }
	deadline := func(h *hand) time.Time { return h.update.Deadline }
	hold := fsm.Observation{Kind: fsm.ObserveHold, Hold: fsm.Hold{Holder: "operator"}}
	with := func(h *hand, o ...fsm.Observation) *hand {
		for _, o := range o {
			o.Action = h.update.Doing().ID
			h.step(o)
		}
		return h
	}
	reads := func(h *hand, p picture) *hand {
		h.reads(p)
		return h
	}
	looks := func(h *hand, p picture) *hand {
		h.looks(p)
		return h
	}
	doing := func(h *hand, kind fsm.ActionKind, p picture) *hand {
		h.toAction(t, kind, p)
		return h
	}
	queued := fsm.Observation{Kind: fsm.ObserveQueued}
	for _, tt := range []struct {
		h      *hand
		reason string
		whose  fsm.Whose
		until  func(h *hand) time.Time
	}{
		{with(&hand{now: epoch, update: fsm.NewUpdate(plan, epoch)}, fsm.Observation{Kind: fsm.ObserveStarted}), "device to register", fsm.WhoseDevice, deadline},
		{with(executed(plan, oldVersion), fsm.Observation{Kind: fsm.ObserveAway}), "device to restart and register", fsm.WhoseDevice, after(time.Hour)},
		{with(transferring(plan), fsm.Observation{Kind: fsm.ObserveAsleep}), "sleeping device to wake", fsm.WhoseDevice, deadline},
		{with(transferring(plan), fsm.Observation{Kind: fsm.ObserveAway}), "device to come back", fsm.WhoseDevice, deadline},

		{with(observing(t, plan), queued), "turn in this server's queue for Observe", fsm.WhoseServer, deadline},
		{with(started(plan), queued), "turn in this server's queue for Read", fsm.WhoseServer, deadline},
		{with(doing(started(plan), fsm.ActionReset, downloaded), queued), "turn in this server's queue for the reset", fsm.WhoseServer, deadline},
		{with(writing(t, plan), queued), "turn in this server's queue for Write 5/0/1", fsm.WhoseServer, deadline},
		{with(pushing(t, plan), queued), "turn in this server's queue for the push", fsm.WhoseServer, deadline},
		{with(doing(transferring(plan), fsm.ActionExecute, downloaded), queued), "turn in this server's queue for Execute", fsm.WhoseServer, deadline},

		{observing(t, plan), "answer to Observe", fsm.WhoseDevice, after(2*time.Hour - 3*time.Second)},
		{started(plan), "answer to Read", fsm.WhoseDevice, after(30 * time.Minute)},
		{doing(started(plan), fsm.ActionReset, downloaded), "answer to the reset", fsm.WhoseDevice, after(30 * time.Minute)},
		{writing(t, plan), "answer to Write 5/0/1", fsm.WhoseDevice, after(2 * time.Hour)},
		{doing(transferring(plan), fsm.ActionExecute, downloaded), "answer to Execute", fsm.WhoseDevice, after(15 * time.Minute)},
		{pushing(t, plan), "push to finish", fsm.WhoseDevice, after(2 * time.Hour)},
		{with(pushing(t, plan), fsm.Observation{Kind: fsm.ObserveSilent}), "push to finish", fsm.WhoseDevice, after(2 * time.Hour)},
		{with(pushing(t, plan), fsm.Observation{Kind: fsm.ObserveBusy}), "push to go on: the device is busy", fsm.WhoseDevice, after(2 * time.Hour)},
		{with(writing(t, plan), fsm.Observation{Kind: fsm.ObserveBusy}), "answer to Write 5/0/1", fsm.WhoseDevice, after(2 * time.Hour)},

		{with(started(plan), fsm.Observation{Kind: fsm.ObserveDone}), "device to answer a read", fsm.WhoseDevice, after(30 * time.Minute)},
		{reads(started(plan), picture{fsm.State(43), 0, oldVersion, false}), "device to answer a read", fsm.WhoseDevice, after(30 * time.Minute)},
		{reads(started(plan), updating), "device to finish another update", fsm.WhoseDevice, after(30 * time.Minute)},
		{with(writing(t, plan), fsm.Observation{Kind: fsm.ObserveDone, Code: fsm.CodeChanged}), "device to begin its download", fsm.WhoseDevice, after(2 * time.Hour)},
		{with(writing(t, plan), fsm.Observation{Kind: fsm.ObserveDone, Code: fsm.CodeNotFound}), "device to be read", fsm.WhoseDevice, after(2 * time.Hour)},
		{with(writing(t, plan), fsm.Observation{Kind: fsm.ObserveDone}), "device to be read", fsm.WhoseDevice, after(2 * time.Hour)},
		{with(pushing(t, plan), fsm.Observation{Kind: fsm.ObserveDone, Code: fsm.CodeChanged}), "device to check the package", fsm.WhoseDevice, after(2 * time.Hour)},
		{with(pushing(t, plan), fsm.Observation{Kind: fsm.ObserveDone, Code: fsm.CodeNotFound}), "device to be read", fsm.WhoseDevice, after(2 * time.Hour)},
		{with(pushing(t, plan), fsm.Observation{Kind: fsm.ObserveDone}), "device to be read", fsm.WhoseDevice, after(2 * time.Hour)},
		{looks(transferring(plan), downloading), "download to finish", fsm.WhoseDevice, func(h *hand) time.Time { return h.now.Add(2*time.Hour - 3*time.Second) }},
		{
			reads(transferring(plan), idle), "second look, because the device accepted the package but shows no download",
			fsm.WhoseDevice, after(5 * time.Minute),
		},
		{
			reads(transferring(plan), picture{fsm.Idle, fsm.ResultOutOfMemory, oldVersion, false}), "next attempt, because: the device reported result out_of_mem",
			fsm.WhoseServer, func(h *hand) time.Time { return h.update.RetryAt() },
		},
		{reads(with(transferring(plan), hold), downloaded), "hold to be released: operator", fsm.WhoseOperator, after(time.Hour)},
		{executed(plan, oldVersion), "device to start the update", fsm.WhoseDevice, after(15 * time.Minute)},
		{reads(executed(plan, oldVersion), updating), "device to finish the update", fsm.WhoseDevice, after(time.Hour)},
		{reads(executed(plan, oldVersion), downloading), "device to finish another transfer", fsm.WhoseDevice, func(h *hand) time.Time { return h.now.Add(15*time.Minute - 3*time.Second) }},
		{reads(executed(plan, oldVersion), idle), "device to restart", fsm.WhoseDevice, after(time.Hour)},
		{
			reads(with(executed(plan, oldVersion), fsm.Observation{Kind: fsm.ObserveRegistered}), picture{fsm.Idle, 0, "", false}),
			"device to report a result", fsm.WhoseDevice, after(15 * time.Minute),
		},
	} {
		w := tt.h.update.Wait
		require.True(t, isWaitSentence(w.Reason), w.Reason)
		require.Equal(t, tt.reason, w.Reason)
		require.Equal(t, tt.whose, w.Whose, tt.reason)
		require.Equal(t, tt.until(tt.h).Sub(tt.h.now), w.Until.Sub(tt.h.now), tt.reason)
	}

	// An update that its device defers.
	h := executed(plan, oldVersion)
	h.toAction(t, fsm.ActionRead, updating)
	h.done(fsm.CodeContent, h.shows(picture{fsm.Downloaded, fsm.ResultDeferred, oldVersion, false}))
	require.Equal(t, fsm.Wait{Reason: "device to start the deferred update", Whose: fsm.WhoseDevice, Until: h.now.Add(10 * time.Minute)}, h.update.Wait)

	// The device is read when a hold ends by itself.
	h = with(transferring(plan), fsm.Observation{Kind: fsm.ObserveHold, Hold: fsm.Hold{Holder: "x", Until: epoch.Add(30 * time.Minute)}})
	h.reads(downloaded)
	require.Equal(t, epoch.Add(30*time.Minute), h.update.Wait.Until)
	require.Equal(t, epoch.Add(30*time.Minute), h.update.Wake())
	h.now = epoch.Add(30 * time.Minute)
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	require.Equal(t, "device to be read", h.update.Wait.Reason)
	require.Nil(t, h.update.Holds)
}

// TestPauses: the time from each answer to the next read.
func TestPauses(t *testing.T) {
	plan := fsm.Plan{Target: newVersion, Size: 1000}
	quick := plan
	quick.Limits.Poll = time.Second
	execute := func(plan fsm.Plan) *hand {
		h := transferring(plan)
		h.toAction(t, fsm.ActionExecute, downloaded)
		return h
	}
	begin := map[string]func(plan fsm.Plan) *hand{
		"write":   func(plan fsm.Plan) *hand { return writing(t, plan) },
		"push":    func(plan fsm.Plan) *hand { return pushing(t, plan) },
		"execute": execute,
	}
	said := map[string]map[string]string{
		"write": {
			"accepted": "uri_accepted: the device accepted the Package URI\n", "unknown": "uri_unanswered: % Write 5/0/1\n",
			"refused": "uri_refused: % Write 5/0/1\n",
		},
		"push": {
			"accepted": "push_accepted: the device accepted all bytes\n", "unknown": "push_broken: % a block of the push\n",
			"refused": "push_refused: % the push\n",
		},
		"execute": {
			"accepted": "execute_accepted: the device accepted Execute\n", "unknown": "execute_unanswered: % Execute\n",
			"refused": "execute_refused: % Execute\n",
		},
	}
	for name, begin := range begin {
		for code := range 256 {
			code := fsm.Code(code)
			kind, pause, quickPause := "refused", 200*time.Millisecond, 200*time.Millisecond
			switch {
			case code == fsm.CodeNone, code == fsm.CodeServiceUnavailable:
				kind, pause, quickPause = "unknown", 5*time.Second, time.Second
			case code>>5 == 2:
				kind, pause, quickPause = "accepted", 3*time.Second, time.Second
				if name == "push" {
					pause, quickPause = 200*time.Millisecond, 200*time.Millisecond
				}
			}
			h := begin(plan)
			h.done(code, fsm.Reading{})
			require.Equal(t, pause, h.update.Wake().Sub(h.now), "%s answered %s", name, code)
			require.Equal(t, strings.Replace(said[name][kind], "%", answers(code), 1), h.journal())
			if code&0x1f < 6 {
				h = begin(quick)
				h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: h.update.Doing().ID, Code: code, Detail: "why"})
				require.Equal(t, quickPause, h.update.Wake().Sub(h.now), "%s answered %s", name, code)
				want := strings.Replace(said[name][kind], "%", answers(code), 1)
				if kind != "accepted" {
					want = strings.TrimSuffix(want, "\n") + " (why)\n"
				}
				require.Equal(t, want, h.journal())
			}
		}
	}

	// If the device did not answer, the server reads, and tries once more to observe. Then it reads
	// without an observation.
	for code := range 256 {
		code := fsm.Code(code)
		h := observing(t, plan)
		h.done(code, fsm.Reading{})
		unknown := code == fsm.CodeNone || code == fsm.CodeServiceUnavailable
		require.Equal(t, fsm.ActionRead, h.update.Doing().Kind, code)
		if unknown {
			require.Empty(t, h.journal())
			h.done(fsm.CodeContent, h.shows(downloading))
			require.Equal(t, 5*time.Second, h.update.Wake().Sub(h.now))
			h.now = h.update.Wake()
			h.step(fsm.Observation{Kind: fsm.ObserveTimer})
			require.Equal(t, fsm.ActionObserve, h.update.Doing().Kind)
			h.done(code, fsm.Reading{})
		}
		require.Equal(t, code>>5 != 2, h.journal() == "polling: "+answers(code)+" Observe 5/0/3; the server reads it now and then\n", code)
	}

	// The server reads soon after a hint, but not too often.
	h := transferring(plan)
	h.reads(downloading)
	h.step(fsm.Observation{Kind: fsm.ObserveHint})
	require.Equal(t, 500*time.Millisecond, h.update.Wake().Sub(h.now), "just after a read")
	h.step(fsm.Observation{Kind: fsm.ObserveHint})
	h.now = h.now.Add(400 * time.Millisecond)
	h.step(fsm.Observation{Kind: fsm.ObserveHint})
	require.Equal(t, 100*time.Millisecond, h.update.Wake().Sub(h.now), "the first hint counts")
	h.reads(downloading)
	h.now = h.now.Add(time.Second)
	h.step(fsm.Observation{Kind: fsm.ObserveHint})
	require.Equal(t, 200*time.Millisecond, h.update.Wake().Sub(h.now))
}

// answers returns the journal's text for an answer of the device.
func answers(code fsm.Code) string {
	if code == fsm.CodeNone {
		return "the device did not answer"
	}
	return "the device answered " + code.String() + " to"
}

// TestBackOff: pauses between reads double from the first one up to 64 times it, and start again
// with each change.
func TestBackOff(t *testing.T) {
	plan := fsm.Plan{Target: newVersion, Size: 1000, Limits: fsm.Limits{Transferring: 10 * time.Hour}}
	pauses := func(h *hand, n int, look func()) []int {
		var list []int
		for range n {
			look()
			list = append(list, int(h.update.Wake().Sub(h.now)/time.Second))
		}
		return list
	}
	doubling := []int{5, 10, 20, 40, 80, 160, 320, 320, 320}
	h := transferring(plan)
	show := func(p picture) func() { return func() { h.looks(p) } }
	require.Equal(t, doubling, pauses(h, 9, show(downloading)))
	// The device shows something new.
	require.Equal(t, doubling[:3], pauses(h, 3, show(idle)))
	require.Equal(t, doubling[:3], pauses(h, 3, show(downloading)))
	h.step(fsm.Observation{Kind: fsm.ObserveHint})
	require.Equal(t, doubling[:3], pauses(h, 3, show(downloading)), "a hint")
	h.toAction(t, fsm.ActionExecute, downloaded)
	h.done(fsm.CodeChanged, fsm.Reading{})
	require.Equal(t, doubling[:2], pauses(h, 2, show(downloaded)), "Execute")

	// Reads that fail, and reads that make no sense.
	h = transferring(plan)
	h.reads(downloading)
	unread := func() { h.readsAll(fsm.Reading{}) }
	require.Equal(t, doubling, pauses(h, 9, unread))
	h.reads(downloading)
	require.Equal(t, doubling[:2], pauses(h, 2, unread), "it was read in between")
	h = transferring(plan)
	h.reads(downloading)
	require.Equal(t, doubling, pauses(h, 9, show(picture{fsm.State(43), 0, oldVersion, false})))
	h.reads(downloading)
	require.Equal(t, doubling[:2], pauses(h, 2, show(picture{fsm.State(43), 0, oldVersion, false})))

	// The next attempt.
	h = transferring(plan)
	pauses(h, 5, show(downloading))
	h.reads(picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false})
	h.now = h.update.RetryAt()
	require.Equal(t, doubling[:3], pauses(h, 3, show(updating)))
	h.toAction(t, fsm.ActionWriteURI, idle)
	h.done(fsm.CodeChanged, fsm.Reading{})
	require.Equal(t, doubling[:2], pauses(h, 2, show(downloading)))

	// Once more before the limit strikes.
	h = transferring(fsm.Plan{Target: newVersion, Size: 1000, Limits: fsm.Limits{Transferring: 100 * time.Second}})
	require.Equal(t, []int{5, 10, 20, 40}, pauses(h, 4, show(downloading))[:4])
	h.reads(downloading)
	require.Equal(t, 17*time.Second, h.update.Wake().Sub(h.now), "five seconds before")
	h.reads(downloading)
	h.now = h.update.Wake()
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	require.Equal(t, fsm.ReasonPhaseLimit, h.update.Reason)
	require.Equal(t, 100*time.Second, h.now.Sub(epoch))

	// The journal reports the first, second, fourth failed read and so on.
	h = transferring(plan)
	var lines []int
	for n := 1; n <= 9; n++ {
		h.readsAll(fsm.Reading{})
		if h.journal() != "" {
			lines = append(lines, n)
		}
	}
	require.Equal(t, []int{1, 2, 4, 8}, lines)
}

// readsAll lets time pass until the next read has ended, with r.
func (h *hand) readsAll(r fsm.Reading) {
	for h.update.Active() && h.update.Doing().Kind != fsm.ActionRead {
		if h.update.Doing().Kind != fsm.ActionNone {
			h.done(fsm.CodeContent, fsm.Reading{})
			continue
		}
		h.now = h.update.Wake()
		h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	}
	h.done(fsm.CodeContent, r)
}

// TestPartialReadings: a reading without a Result or a version is good only if the device refused
// it, or left it out three times before.
func TestPartialReadings(t *testing.T) {
	for code := range 256 {
		code := fsm.Code(code)
		for _, lacks := range []string{"5/0/5", "3/0/3"} {
			r := picture{fsm.Idle, 0, oldVersion, false}.reading()
			if lacks == "5/0/5" {
				r.Result = fsm.Refused[fsm.Result](code)
			} else {
				r.Version = fsm.Refused[string](code)
			}
			h := started(fsm.Plan{Target: newVersion})
			h.readsAll(r)
			if code != fsm.CodeNone && code != fsm.CodeServiceUnavailable {
				require.Equal(t, fsm.ActionWriteURI, h.update.Doing().Kind, "%s %s", lacks, code)
				continue
			}
			require.Equal(t, "read_failed: "+answers(code)+" Read "+lacks+" (1 in a row)\n", h.journal())
			h.readsAll(r)
			h.readsAll(r)
			require.Equal(t, fsm.ActionNone, h.update.Doing().Kind)
			h.readsAll(r)
			require.Equal(t, fsm.ActionWriteURI, h.update.Doing().Kind, "good enough")
		}
	}
	h := started(fsm.Plan{Target: newVersion})
	h.toAction(t, fsm.ActionRead, idle)
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: h.update.Doing().ID, Detail: "no route"})
	require.Equal(t, "read_failed: the device did not answer Read 5/0/3 (no route) (1 in a row)\n", h.journal())
	h.toAction(t, fsm.ActionRead, idle)
	h.step(fsm.Observation{
		Kind: fsm.ObserveDone, Action: h.update.Doing().ID, Detail: "no route",
		Reading: fsm.Reading{State: fsm.Refused[fsm.State](fsm.CodeInternalError)},
	})
	require.Equal(t, "read_failed: the device answered 5.00 to Read 5/0/3 (2 in a row)\n", h.journal(), "the cause is that of no answer")
}
