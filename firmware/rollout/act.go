package rollout

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/otago-iot/otago/firmware"
	ufsm "github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// actionPause is how long an action that failed for a reason of the server's own waits before it is
// done again.
const actionPause = 5 * time.Second

// KeyPrefix begins the idempotency keys of a rollout's updates.
const KeyPrefix = "rollout/"

// key is the idempotency key of a member's update. Keys have the order of the members, so that
// those of updates which are made together are together in a store.
func key(m *Member) string {
	sum := sha256.Sum256([]byte(m.Rollout + "\x00" + m.Endpoint)) // that of store.MemberOrder
	return KeyPrefix + m.Rollout + "/" + strconv.Itoa(m.Machine.Attempt) + "/" + hex.EncodeToString(sum[:16])
}

// holder is the holder of a rollout's holds.
func (r *runner) holder() string { return KeyPrefix + r.id }

// act carries an action out, unless one of the member is under way: then the member is looked at
// when that has ended.
func (r *runner) act(ctx context.Context, m Member, do fsm.ActionKind) {
	if r.dry {
		return
	}
	if _, busy := r.busy[m.Endpoint]; busy {
		r.again[m.Endpoint] = struct{}{}
		return
	}
	r.busy[m.Endpoint] = struct{}{}
	r.actions.Add(1)
	finish := func(x result) {
		x.endpoint, x.action = m.Endpoint, do
		r.ended(x)
	}
	if do != fsm.ActionStart {
		reg, _ := r.m.srv.Registration(m.Endpoint)
		silence := r.silence(&reg)
		r.pool.Run(func() {
			defer r.actions.Done()
			finish(r.perform(ctx, &m, do, silence))
		})
		return
	}
	asked, image, err := r.request(ctx)
	from := r.starting(&m)
	r.starts.Run(func() { // it may read the device, which may be silent
		defer r.actions.Done()
		if err != nil {
			finish(result{input: fsm.Input{Kind: fsm.InputRefused, Text: err.Error()}})
			return
		}
		finish(r.startUpdate(ctx, &m, asked, image, from))
	})
}

func (r *runner) perform(ctx context.Context, m *Member, do fsm.ActionKind, silence time.Duration) result {
	var err error
	switch do {
	case fsm.ActionHold:
		_, err = r.m.updates.Hold(ctx, m.Machine.Update, r.hold())
		if err == nil {
			var seen fsm.Seen
			if seen, err = r.seen(ctx, m, silence); err == nil {
				return result{input: fsm.Input{Kind: fsm.InputHeld, Seen: seen}}
			}
		}
	case fsm.ActionRelease:
		_, err = r.m.updates.Release(ctx, m.Machine.Update, r.holder())
	case fsm.ActionCancel:
		_, err = r.m.updates.Cancel(ctx, m.Machine.Update)
	}
	switch {
	case err == nil && do == fsm.ActionRelease:
		return result{}
	case err == nil, errors.Is(err, firmware.ErrEnded), errors.Is(err, store.ErrNotFound):
		r.look(m.Endpoint)
		return result{}
	}
	if ctx.Err() == nil {
		r.m.log.Error("an action of a rollout failed", "rollout", r.id, "endpoint", m.Endpoint, "action", do, "error", err)
	}
	return result{failed: true}
}

func (r *runner) hold() firmware.Hold {
	return firmware.Hold{Holder: r.holder(), Reason: "its turn in the rollout"}
}

// A starting is where the rollout stands when the update of a member is ordered. It may take half a
// minute to read the device before the update is made.
type starting struct {
	turns  int
	moves  bool // updates that are granted may execute, inside the window
	window Window
	zone   *time.Location
	asks   bool // the device has to answer first
}

const (
	fewPlaces = 20               // with fewer, each device has to answer before its update is made
	justHeard = 30 * time.Second // or to have been heard so lately
)

func (r *runner) starting(m *Member) starting {
	machine := &r.record.Machine
	reg, _ := r.m.srv.Registration(m.Endpoint)
	// The update of a device that is registered, and answers nothing, keeps its place for AwayTime.
	// A read takes half a minute at most. It costs a message: where there are many places, devices
	// are read once one is away.
	silent := machine.Plan.Concurrency < fewPlaces || machine.Slots.Away > 0
	return starting{
		asks:  silent && !reg.Queue && time.Since(reg.LastSeen) > justHeard,
		turns: r.turns, window: machine.Plan.Window, zone: r.zone(m),
		moves: m.Machine.Granted && (machine.State == fsm.StateRunning || machine.State == fsm.StateStopping && !machine.Cancels),
	}
}

// mayExecute reports whether an update that is made now may execute. The caller holds r.turning.
func (r *runner) mayExecute(from *starting) bool {
	if !from.moves || r.turns != from.turns {
		return false
	}
	if from.window.Zone == "" {
		return true
	}
	now := time.Now()
	open, change := from.window.At(now, cmp.Or(from.zone, time.UTC))
	runs, _ := window{open, change}.runs(now)
	return runs
}

// startUpdate makes the update of a member. If the rollout has changed meanwhile, or the window
// ends, the update is made on hold although the member is granted; the runner then looks whether it
// may release it.
func (r *runner) startUpdate(ctx context.Context, m *Member, asked *stored, image *store.Image, from starting) result {
	refused := func(in fsm.Input) result {
		in.Kind = fsm.InputRefused
		return result{input: in}
	}
	why, err := r.unfit(ctx, m, asked, image, from.asks)
	switch {
	case (err != nil || why != "") && r.begun(ctx, m):
	case err != nil:
		return refused(fsm.Input{Text: clip(err.Error(), store.MaxName)})
	case why != "":
		return refused(fsm.Input{Skip: why})
	}
	q := asked.Update
	q.Endpoint, q.Image, q.Key = m.Endpoint, image.ID, key(m)
	r.turning.RLock()
	defer r.turning.RUnlock()
	held := !r.mayExecute(&from)
	if held {
		q.Hold = r.hold()
	}
	u, err := r.m.updates.Start(ctx, q)
	active := new(store.UpdateError)
	wrong := new(firmware.RequestError)
	switch {
	case err == nil:
		return result{input: fsm.Input{Kind: fsm.InputStarted, Update: u.ID}, held: held && m.Machine.Granted}
	case errors.As(err, &active) && errors.Is(err, store.ErrActive):
		return refused(fsm.Input{Busy: active.ID})
	case errors.As(err, &wrong), errors.Is(err, store.ErrNotFound):
		return refused(fsm.Input{Text: clip(err.Error(), store.MaxName)})
	}
	if ctx.Err() == nil {
		r.m.log.Error("an update of a rollout could not be made", "rollout", r.id, "endpoint", m.Endpoint, "error", err)
	}
	return result{failed: true}
}

// placeOf returns the place of a member by the phase of its update.
func placeOf(p ufsm.Phase) fsm.Place {
	switch p {
	case ufsm.PhaseTransferred:
		return fsm.PlaceReady
	case ufsm.PhaseExecuting, ufsm.PhaseRestarting, ufsm.PhaseVerifying:
		return fsm.PlaceInstalling
	}
	return fsm.PlaceTransferring
}

// A spot is what is known of an active member without its record.
type spot struct {
	place fsm.Place
	gone  bool // its device does not answer, is out of reach, or missing; or another update is in the way
}

// spotOf returns the spot of a member. While its update is made, it stands as if it existed.
func spotOf(m *fsm.Member) spot {
	s := spot{m.Place, !m.Gone.IsZero() || m.Missing || m.Busy != ""}
	if s.place == fsm.PlaceStarting {
		s.place = fsm.PlaceTransferring
	}
	return s
}

// concerns reports whether a line of an update's journal can change the member.
func (s spot) concerns(e *store.Event) bool {
	switch {
	case s.gone, e.Outcome != ufsm.OutcomeNone, placeOf(e.Phase) != s.place:
		return true
	}
	switch e.Name { // an ordinary update has these
	case firmware.EventCreated, ufsm.EventStarted, ufsm.EventRead, ufsm.EventWriteURI, firmware.EventPackageURI, ufsm.EventURIAccepted,
		ufsm.EventDownloadRequested, ufsm.EventPackageFetched, ufsm.EventPush, ufsm.EventPushAccepted, ufsm.EventTransferStarted,
		ufsm.EventPolling, ufsm.EventHeld, ufsm.EventReleased, ufsm.EventExecuteHeld, ufsm.EventExecute, ufsm.EventExecuteAccepted,
		ufsm.EventRestarting, ufsm.EventRegistered, ufsm.EventSettling:
		return false
	}
	return true
}

// silence is how long a member may be silent after Execute.
func (r *runner) silence(reg *lwm2m.Registration) time.Duration {
	after := r.record.Machine.Plan.MissingAfter
	if reg.Queue {
		after += reg.Lifetime
	}
	return after
}

// seen is what a member's update shows.
func (r *runner) seen(ctx context.Context, m *Member, silence time.Duration) (fsm.Seen, error) {
	u, err := r.m.updates.Get(ctx, m.Machine.Update)
	if errors.Is(err, store.ErrNotFound) { // an operator has deleted it, after it had ended
		return fsm.Seen{End: fsm.EndingCancelled}, nil
	}
	if err != nil {
		return fsm.Seen{}, fmt.Errorf("reading update %s: %w", m.Machine.Update, err)
	}
	reg, _ := r.m.srv.Registration(m.Endpoint)
	memory := &u.Machine.Memory
	s := fsm.Seen{
		Place: placeOf(u.Machine.Phase), Silence: silence, Heard: reg.LastSeen,
		// A registered device that answers nothing is away, and so is one that sleeps.
		Online: r.m.srv.Reachable(m.Endpoint) && memory.Reading.Fails == 0 && !memory.Reading.Silent && !memory.Presence.Asleep,
	}
	if s.Place == fsm.PlaceTransferring && memory.Attempt.HeldBack {
		s.Place = fsm.PlaceReady // the device would install the package without Execute: it has to wait before its transfer
	}
	switch u.Machine.Outcome {
	case ufsm.OutcomeNone:
	case ufsm.OutcomeSucceeded:
		s.End = fsm.EndingSucceeded
		if u.Machine.Reason == ufsm.ReasonAlreadyRunning {
			s.End = fsm.EndingCurrent
		}
	case ufsm.OutcomeRolledBack:
		s.End = fsm.EndingRolledBack
	case ufsm.OutcomeCancelled:
		s.End = fsm.EndingCancelled
	case ufsm.OutcomeFailed:
		s.End = fsm.EndingFailed
		if u.Machine.Reason == ufsm.ReasonIncompatible {
			s.End = fsm.EndingIncompatible
		}
	case ufsm.OutcomeTimedOut:
		s.End = fsm.EndingTimedOut
		if u.Machine.Result == ufsm.ResultConnectionLost && m.Machine.Place != fsm.PlaceInstalling && !u.Machine.Executed() {
			s.End = fsm.EndingAway
		}
	default:
		s.End = fsm.EndingFailed
	}
	return s, nil
}

// location returns a zone by its name in the IANA database, or by an offset, such as +02:00 or
// UTC+2.
func location(name string) (*time.Location, error) {
	if zone, ok := (store.Facts{Zone: name, Offset: name}).Location(); ok && name != "" {
		return zone, nil
	}
	return nil, fmt.Errorf("rollout: no zone is named %q", name)
}

// zoneOfDevice returns where a device's clock is, as its facts say: the name of a zone, or an
// offset. It is "" if they do not.
func zoneOfDevice(d *store.Device) string {
	if _, ok := (store.Facts{Zone: d.Facts.Zone}).Location(); ok {
		return d.Facts.Zone
	}
	if _, ok := d.Facts.Location(); ok {
		return d.Facts.Offset
	}
	return ""
}
