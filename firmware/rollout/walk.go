package rollout

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

const (
	rewindPause = 10 * time.Second // at least, between two walks through all that wait
	awake       = time.Minute      // how long a device in queue mode counts as awake after it was heard, at most
	pageSize    = 128              // members that a page of the walk has
	pagesATurn  = 16               // pages that one turn looks at
	maxMissed   = 1024             // devices that were heard, found no place, and are kept
)

// A walk goes through the members that wait, in their order, and offers those to the rollout that
// can be reached. At its end it stands still: whichever device is heard after that is offered by
// itself. It keeps one page of members.
type walk struct {
	page   []Member
	newer  map[string]bool // members of the page: whether their records have changed since
	after  string
	tail   Member // the last one of the pages so far
	last   bool   // there is no page after this one
	left   bool   // a member that was passed over may be admitted in this stage
	begun  time.Time
	again  time.Time // when it begins again for devices that could be admitted then; zero for not at all
	invite time.Time // the same for devices that sleep, and could be invited then
	stands bool      // the rollout admits none for now
	asleep bool      // members were passed over that sleep, and were not invited

	missed map[string]struct{} // devices that were heard behind the walk, while there was no place
	lapsed map[string]struct{} // members that did not use their invitations: others have a turn first
}

// restart makes the walk begin with the first member that waits. It comes to those that were
// missed.
func (w *walk) restart() {
	clear(w.missed)
	w.page, w.after, w.last, w.left, w.asleep = nil, "", false, false, false
	w.begun, w.again, w.invite = time.Time{}, time.Time{}, time.Time{}
}

// over reports whether the walk has come to its end.
func (w *walk) over() bool { return w.last && len(w.page) == 0 }

// rewind makes the walk begin again at a time, or when it has come to its end.
func (w *walk) rewind(at time.Time) { w.again = sooner(w.again, at) }

// sooner returns the earlier of two times of which either may be zero, for never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// next returns when the walk goes on by itself.
func (w *walk) next() time.Time {
	if w.stands || !w.over() {
		return time.Time{}
	}
	return sooner(w.again, w.invite)
}

// lapse notes that a member has not used its invitation.
func (w *walk) lapse(endpoint string) {
	if w.lapsed == nil || len(w.lapsed) >= maxMissed {
		w.lapsed = map[string]struct{}{}
	}
	w.lapsed[endpoint] = struct{}{}
	w.invitable()
}

// invitable notes that an invitation is free.
func (w *walk) invitable() { w.invite = sooner(w.invite, time.Now().Add(rewindPause)) }

// behind reports whether the walk has passed a member. It comes to the others in their order.
func (w *walk) behind(m *Member) bool {
	switch {
	case w.over():
		return true
	case len(w.page) > 0:
		return inTurn(m, &w.page[0]) < 0
	}
	return !w.begun.IsZero() && inTurn(m, &w.tail) <= 0
}

// inTurn compares two members of a rollout by whose turn comes first.
func inTurn(a, b *Member) int {
	x, y := store.MemberOrder(a.Rollout, a.Endpoint), store.MemberOrder(b.Rollout, b.Endpoint)
	return cmp.Or(cmp.Compare(x, y), cmp.Compare(a.Endpoint, b.Endpoint))
}

// miss keeps a device that was heard while there was no place for it, and that the walk has passed.
// Of those before it some could not be reached, so this one has its turn next.
func (w *walk) miss(m *Member) {
	switch {
	case !w.behind(m): // one that was promised a place
	case len(w.missed) >= maxMissed:
		w.rewind(time.Now().Add(rewindPause))
	case w.missed == nil:
		w.missed = map[string]struct{}{m.Endpoint: {}}
	default:
		w.missed[m.Endpoint] = struct{}{}
	}
}

// offer offers a member to the rollout, if its device can be reached or sleeps. It returns why the
// member waits on.
func (r *runner) offer(ctx context.Context, b *batch, m *Member) (fsm.Waiting, error) {
	reg, ok := r.m.srv.Registration(m.Endpoint)
	if !ok || !r.m.srv.Reachable(m.Endpoint) {
		return fsm.WaitingOffline, nil
	}
	if err := r.moved(ctx, b, m); err != nil {
		return "", err
	}
	if b.record.Machine.Plan.Interval > 0 && m.Machine.State == fsm.MemberWaiting && m.Machine.Busy == "" {
		// An admission that fails would cost the others a turn.
		for u, err := range r.m.updates.List(ctx, store.UpdateQuery{Endpoint: m.Endpoint, Active: true, Limit: 1}) {
			if err == nil {
				b.busy(m, u.ID, busyPause)
				return fsm.WaitingBusy, nil
			}
		}
	}
	if r.doubtful(m, &reg) {
		why, _ := b.record.Machine.Waiting(&m.Machine, time.Now(), r.zone(m), true, false)
		if why == "" {
			why = fsm.WaitingOffline
			r.probe(ctx, m.Endpoint, reg.Lifetime)
		}
		return why, nil
	}
	in := fsm.Input{Kind: fsm.InputReach, Asleep: r.m.sleeps(&reg), Lifetime: reg.Lifetime}
	why := b.stepMember(m, in).Waiting
	if m.Machine.State == fsm.MemberWaiting && why == fsm.WaitingBusy || why == fsm.WaitingRetry {
		r.note(m) // the runner may have been started since
	}
	return why, nil
}

// moved takes over where the clock of a member's device is now, if the window follows it.
func (r *runner) moved(ctx context.Context, b *batch, m *Member) error {
	if r.record.Machine.Plan.Window.Zone != fsm.ZoneDevice {
		return nil
	}
	d, err := r.m.device(ctx, m.Endpoint)
	if err != nil {
		return err
	}
	if zone := zoneOfDevice(&d); zone != "" && zone != m.Zone {
		m.Zone = zone
		b.put(m)
	}
	return nil
}

// heard offers a member whose device was heard, unless the walk comes to it: that other devices are
// heard, such as those of a site that has power again, changes no turns.
func (r *runner) heard(ctx context.Context, b *batch, m *Member) error {
	if m.Machine.State == fsm.MemberWaiting && m.Machine.Place == fsm.PlaceNone && !r.walk.behind(m) {
		return nil
	}
	why, err := r.offer(ctx, b, m)
	machine := &b.record.Machine
	named := !machine.Plan.Stages[machine.Stage].Only || m.Machine.Only&(1<<machine.Stage) != 0
	switch why {
	case fsm.WaitingStage, fsm.WaitingRate, fsm.WaitingConcurrency:
		if named { // the others are found when another stage opens
			r.walk.miss(m)
		}
	case fsm.WaitingWindow:
		r.passWindow(m)
	}
	return err
}

// passWindow has the walk begin again when the window of a member opens that it has passed over.
func (r *runner) passWindow(m *Member) {
	if w := r.windowOf(r.zone(m)); !w.change.IsZero() {
		r.walk.rewind(w.change)
	}
}

// stands reports why the rollout admits no member now, whichever it is.
func (r *runner) stands(machine *fsm.Rollout) fsm.Waiting {
	zone := time.UTC
	switch machine.Plan.Window.Zone {
	case "":
	case fsm.ZoneDevice:
		always := *machine
		always.Plan.Window = fsm.Window{} // each device has its own
		machine = &always
	default:
		zone = r.m.zoneOf(&machine.Plan.Window, &Member{})
	}
	any := fsm.Member{State: fsm.MemberWaiting, Only: 1<<len(machine.Plan.Stages) - 1}
	why, _ := machine.Waiting(&any, time.Now(), zone, true, false)
	return why
}

// admit goes on with the walk through the members that wait, as long as the rollout admits any.
func (r *runner) admit(ctx context.Context) error {
	b := r.begin()
	if b.record.Machine.Slots.Reserved > 0 {
		if err := r.admitReserved(ctx, b); err != nil {
			return err
		}
	}
	if err := r.admitMissed(ctx, b); err != nil {
		return err
	}
	if err := b.commit(ctx); err != nil {
		return err
	}
	w := &r.walk
	why := r.stands(&r.record.Machine)
	if w.stands = why != ""; w.stands {
		if why == fsm.WaitingWindow {
			r.edgeAt(r.windowOf(r.m.zoneOf(&r.record.Machine.Plan.Window, &Member{})).change)
		}
		return nil
	}
	if next := w.next(); !next.IsZero() && !time.Now().Before(next) {
		if !w.asleep {
			clear(w.lapsed) // the others have had their turn
		}
		w.restart()
	}
	for n := 0; !w.over() && !w.stands; n++ {
		if n == pagesATurn {
			r.signal() // others have their turn
			return nil
		}
		if err := r.page(ctx); err != nil {
			return err
		}
	}
	if w.over() && !w.stands && !r.record.Machine.Exhausted && len(w.missed) == 0 && w.again.IsZero() {
		b := r.begin()
		b.rollout(fsm.Input{Kind: fsm.InputExhausted, None: !w.left})
		return b.commit(ctx)
	}
	return nil
}

// admitReserved offers the members that were promised a place.
func (r *runner) admitReserved(ctx context.Context, b *batch) error {
	q := store.MemberQuery{Rollout: r.id, State: fsm.MemberWaiting, Place: fsm.PlaceReserved, Limit: pageSize}
	for m, err := range r.readable(ctx, q) {
		if err != nil {
			return err
		}
		if _, err := r.offer(ctx, b, &m); err != nil {
			return err
		}
	}
	return nil
}

// admitMissed offers the members whose devices were heard while there was no place.
func (r *runner) admitMissed(ctx context.Context, b *batch) error {
	if len(r.walk.missed) == 0 || r.stands(&b.record.Machine) != "" {
		return nil
	}
	type place struct{ order, endpoint string }
	list := make([]place, 0, len(r.walk.missed))
	for endpoint := range r.walk.missed {
		list = append(list, place{store.MemberOrder(r.id, endpoint), endpoint})
	}
	slices.SortFunc(list, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.endpoint, b.endpoint))
	})
	for _, p := range list {
		if r.stands(&b.record.Machine) != "" {
			return nil
		}
		delete(r.walk.missed, p.endpoint)
		m, err := b.find(ctx, p.endpoint)
		if err != nil {
			return err
		}
		if m == nil || m.Machine.State != fsm.MemberWaiting {
			continue
		}
		if err := r.heard(ctx, b, m); err != nil {
			return err
		}
	}
	return nil
}

// page offers the rest of a page of members, or another page.
func (r *runner) page(ctx context.Context) error {
	w := &r.walk
	if len(w.page) == 0 {
		if err := r.turnPage(ctx); err != nil {
			return err
		}
	}
	b := r.begin()
	for len(w.page) > 0 && !w.stands {
		if err := r.pass(ctx, b, &w.page[0]); err != nil {
			return err
		}
		if w.stands = r.stands(&b.record.Machine) != ""; w.stands {
			break
		}
		w.page = w.page[1:]
	}
	return b.commit(ctx)
}

// turnPage reads the next page of the walk.
func (r *runner) turnPage(ctx context.Context) error {
	w := &r.walk
	if w.begun.IsZero() {
		w.begun = time.Now()
	}
	q := store.MemberQuery{Rollout: r.id, State: fsm.MemberWaiting, After: w.after, Limit: pageSize}
	if stage := r.record.Machine.Stage; r.record.Machine.Plan.Stages[stage].Only {
		q.Only = stage + 1
	}
	w.page = make([]Member, 0, pageSize)
	if w.newer == nil {
		w.newer = map[string]bool{}
	}
	clear(w.newer)
	n := 0
	var last Member
	for m, err := range r.m.db.Members(ctx, q) {
		n++
		switch {
		case errors.Is(err, store.ErrDamaged):
			r.damaged(m.Endpoint, err)
			m.Machine.State = fsm.MemberWaiting // or it would not be among these
		case err != nil:
			w.page = nil
			return err
		default:
			w.page = append(w.page, m)
			w.newer[m.Endpoint] = false
		}
		last = m
	}
	if n > 0 {
		w.after, w.tail = q.Cursor(&last), last
	}
	if n < pageSize {
		w.last = true
		pause := time.Now().Add(20 * time.Since(w.begun)) // a long walk has a long pause
		for _, next := range []*time.Time{&w.again, &w.invite} {
			if !next.IsZero() && next.Before(pause) {
				*next = pause
			}
		}
	}
	return nil
}

// pass offers a member of the page, which may be older than its record.
func (r *runner) pass(ctx context.Context, b *batch, old *Member) error {
	r.walk.left = true
	if !r.m.srv.Reachable(old.Endpoint) {
		return nil
	}
	m := new(Member)
	if *m = *old; r.walk.newer[old.Endpoint] {
		var err error
		if m, err = b.find(ctx, old.Endpoint); m == nil || err != nil || m.Machine.State != fsm.MemberWaiting {
			return err
		}
	}
	if _, lapsed := r.walk.lapsed[m.Endpoint]; lapsed && r.asleep(m.Endpoint) {
		return nil
	}
	why, err := r.offer(ctx, b, m)
	switch {
	case why == fsm.WaitingWindow:
		r.passWindow(m)
	case why == fsm.WaitingAsleep && m.Machine.Place == fsm.PlaceNone:
		r.walk.asleep = true
	}
	return err
}

// asleep reports whether a device is in queue mode and was not heard lately.
func (r *runner) asleep(endpoint string) bool {
	reg, ok := r.m.srv.Registration(endpoint)
	return ok && r.m.sleeps(&reg)
}

// sleeps reports whether a device cannot be reached until it is heard: as the server knows, or
// because so little of its time is left that it would fall asleep in the middle.
func (m *Manager) sleeps(reg *lwm2m.Registration) bool {
	return reg.Queue && (time.Since(reg.LastSeen) > awake || m.srv.Presence(reg.Endpoint) == lwm2m.Asleep)
}
