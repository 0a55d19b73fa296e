package httpapi

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// The kinds of what a stream of events can have.
const (
	kindUpdate  = "update"  // lines of the journal, progress, answers
	kindDevice  = "device"  // a device has registered, or is gone, asleep or awake
	kindRollout = "rollout" // a rollout has changed
	kindCounts  = "counts"  // how many of everything there are
)

// wants is what a client wants of an event stream.
type wants struct {
	kinds                     map[string]bool
	endpoint, update, rollout string // "" for all
}

// wanted reads what a client wants.
func wanted(q query) (*wants, error) {
	w := &wants{kinds: map[string]bool{}, endpoint: q.get("endpoint"), update: q.get("update"), rollout: q.get("rollout")}
	list := kindUpdate
	if q.has("kinds") {
		list = q.get("kinds")
	}
	for kind := range strings.SplitSeq(list, ",") {
		switch kind {
		case kindUpdate, kindDevice, kindRollout, kindCounts:
			w.kinds[kind] = true
		default:
			return nil, invalidQuery("kinds", "kinds must be of update, device, rollout and counts, separated by commas")
		}
	}
	return w, nil
}

// further returns what a client must be allowed beside the access of the call.
func (w *wants) further(of Access) (list []Access) {
	if w.kinds[kindDevice] {
		list = append(list, Access{Action: ReadDevices, Endpoint: w.endpoint})
	}
	if w.kinds[kindRollout] || w.rollout != "" {
		list = append(list, Access{Action: ReadRollouts, Rollout: w.rollout, Image: of.Image})
	}
	if w.kinds[kindCounts] {
		list = append(list, Access{Action: ReadDevices}, Access{Action: ReadUpdates}, Access{Action: ReadRollouts})
	}
	return list
}

// hubWants reports whether the hub has anything for the client.
func (w *wants) hubWants() bool {
	return w.kinds[kindDevice] || w.kinds[kindRollout] || w.kinds[kindCounts]
}

const (
	hubPause    = time.Second            // between two looks
	hubSoon     = 100 * time.Millisecond // before a look for a stream that begins
	countsPause = 2 * time.Second        // at least, between two counts
	countsShare = 20                     // counting takes at most one part in so many of the time
	maxChanges  = 100                    // of devices, in one look
	maxUnread   = 16                     // chunks that wait for a client
	hubTime     = 10 * time.Second       // for the store to answer in one look
)

// A hub sends event streams what is not in the journal of updates. While there are such streams it
// looks once a second; what it finds is encoded once for all of them.
type hub struct {
	api *api

	mu      sync.Mutex
	members map[*member]struct{}
	changes []deviceChange // since the last look
	more    int            // that are not among them
	stop    func()         // nil while there are no members
	wake    chan struct{}  // of capacity 1
}

// A member is an event stream.
type member struct {
	wants  *wants
	chunks chan chunk
	fresh  bool // it has got nothing yet
}

// A deviceChange is the data of an event of kind device.
type deviceChange struct {
	Time     time.Time `json:"time"`
	Endpoint string    `json:"endpoint"`       // "" for more
	Change   string    `json:"change"`         // registered, gone, asleep, awake, more
	More     int       `json:"more,omitempty"` // how many changes the stream leaves out
}

// rolloutChange is the data of an event of kind rollout.
type rolloutChange struct {
	ID      string       `json:"id"`
	Deleted bool         `json:"deleted"`
	Rollout *rolloutView `json:"rollout"` // null if it was deleted
}

// countsEvent is the data of an event of kind counts.
type countsEvent struct {
	Time     time.Time         `json:"time"`
	Devices  countedDevices    `json:"devices"`
	Updates  map[string]uint64 `json:"updates"`
	Rollouts map[string]uint64 `json:"rollouts"`
}

type countedDevices struct {
	All uint64 `json:"all"`
	statesView
}

// join returns what the hub has for a stream, nil if it wants nothing of it, until stop is called.
// The hub closes the channel of a client that is slow.
func (h *hub) join(w *wants) (chunks <-chan chunk, stop func()) {
	if !w.hubWants() {
		return nil, func() {}
	}
	m := &member{wants: w, chunks: make(chan chunk, maxUnread), fresh: true}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.members == nil {
		h.members, h.wake = make(map[*member]struct{}), make(chan struct{}, 1)
	}
	h.members[m] = struct{}{}
	if h.stop == nil {
		ctx, cancel := context.WithCancel(context.Background())
		unwatch := h.api.manager.Watch(h.changed)
		h.stop = func() {
			cancel()
			unwatch()
		}
		h.changes, h.more = nil, 0
		go h.run(ctx)
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return m.chunks, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.members, m)
		if len(h.members) == 0 && h.stop != nil {
			h.stop()
			h.stop = nil
		}
	}
}

// changed notes what has happened to a device.
func (h *hub) changed(e lwm2m.RegistrationEvent) {
	c := deviceChange{Time: instant(time.Now()), Endpoint: e.Registration.Endpoint}
	switch e.Kind {
	case lwm2m.EventRegistered:
		c.Change = "registered"
	case lwm2m.EventDeregistered, lwm2m.EventExpired:
		c.Change = "gone"
	case lwm2m.EventAsleep:
		c.Change = "asleep"
	case lwm2m.EventAwake:
		c.Change = "awake"
	default:
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.changes) < maxChanges {
		h.changes = append(h.changes, c)
	} else {
		h.more++
	}
}

// knowledge is what the hub knows.
type knowledge struct {
	rollouts map[string]seenRollout
	counts   []byte    // the text of the last event, without its time
	sent     []byte    // the text of the last event
	counted  time.Time // when
	cost     time.Duration

	listed   map[string]bool // rollouts, the newest 1000 of all
	listedAt time.Time
	listCost time.Duration
}

type seenRollout struct {
	revision uint64
	text     []byte
}

// An item is an event with what it is about.
type item struct {
	kind, id string // of a device the endpoint
	text     []byte
}

func (h *hub) run(ctx context.Context) {
	known := knowledge{rollouts: map[string]seenRollout{}}
	timer, soon := time.NewTimer(hubSoon), true
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			h.look(ctx, &known)
			timer.Reset(hubPause)
			soon = false
		case <-h.wake:
			if !soon { // else many streams that begin would put it off
				timer.Reset(hubSoon)
				soon = true
			}
		case <-ctx.Done():
			return
		}
	}
}

// look sends each member what has happened since the last look, and a new member what there is.
func (h *hub) look(ctx context.Context, known *knowledge) {
	h.mu.Lock()
	var want wants
	want.kinds = map[string]bool{}
	for m := range h.members {
		for kind := range m.wants.kinds {
			want.kinds[kind] = true
		}
	}
	changes, more := h.changes, h.more
	h.changes, h.more = nil, 0
	h.mu.Unlock()
	within, cancel := context.WithTimeout(ctx, hubTime)
	defer cancel()
	var items []item
	for _, c := range changes {
		items = appendItem(items, kindDevice, c.Endpoint, c)
	}
	if more > 0 {
		items = appendItem(items, kindDevice, "", deviceChange{Time: instant(time.Now()), Change: "more", More: more})
	}
	if want.kinds[kindRollout] && h.api.rollouts != nil {
		items = append(items, h.api.changedRollouts(within, known)...)
		items = append(items, h.api.deletedRollouts(within, known)...)
	}
	if want.kinds[kindCounts] && h.api.count(within, known) {
		items = append(items, item{kind: kindCounts, text: known.sent})
	}
	if ctx.Err() == nil {
		h.send(items, known)
	}
}

// send gives each member the items that it wants. Members that want all of a kind share the bytes.
func (h *hub) send(items []item, known *knowledge) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for m := range h.members {
		var parts [][]byte
		if m.fresh {
			m.fresh = false
			parts = append(parts, known.texts(m.wants)...)
		} else {
			for _, i := range items {
				if m.wants.wants(i.kind, i.id) {
					parts = append(parts, i.text)
				}
			}
		}
		if len(parts) == 0 {
			continue
		}
		c := chunk{text: parts[0]}
		if len(parts) > 1 {
			c.text = bytes.Join(parts, nil)
		}
		select {
		case m.chunks <- c:
		default:
			close(m.chunks) // the client begins again, and gets what there is
			delete(h.members, m)
		}
	}
}

// wants reports whether the client wants an event.
func (w *wants) wants(kind, id string) bool {
	switch {
	case !w.kinds[kind]:
		return false
	case kind == kindDevice:
		return w.endpoint == "" || id == "" || id == w.endpoint
	case kind == kindRollout:
		return w.rollout == "" || id == w.rollout
	}
	return true
}

// texts returns what a member gets at first.
func (s *knowledge) texts(w *wants) (parts [][]byte) {
	for id, r := range s.rollouts {
		if w.wants(kindRollout, id) && len(r.text) > 0 {
			parts = append(parts, r.text)
		}
	}
	if w.kinds[kindCounts] && len(s.sent) > 0 {
		parts = append(parts, s.sent)
	}
	return parts
}

// appendItem appends an event. Its data can be encoded.
func appendItem(items []item, kind, id string, data any) []item {
	text, err := eventOf(kind, data)
	if err != nil {
		return items
	}
	return append(items, item{kind, id, text})
}

// changedRollouts returns the rollouts that have changed since the last look, of the newest 1000
// that have not ended, and those that have ended since.
func (a *api) changedRollouts(ctx context.Context, known *knowledge) (items []item) {
	active := map[string]bool{}
	add := func(r rollout.Rollout) {
		if old, ok := known.rollouts[r.ID]; ok && old.revision == r.Revision {
			return
		}
		view := viewRollout(r)
		items = appendItem(items, kindRollout, r.ID, rolloutChange{ID: r.ID, Rollout: &view})
		known.rollouts[r.ID] = seenRollout{r.Revision, items[len(items)-1].text}
	}
	for r, err := range a.rollouts.List(ctx, store.RolloutQuery{Active: true, Limit: maxCounted}) {
		switch {
		case errors.Is(err, store.ErrDamaged), errors.Is(err, store.ErrShort):
			continue
		case err != nil:
			return items // the next look tries again
		}
		active[r.ID] = true
		add(r)
	}
	for id := range known.rollouts {
		if active[id] {
			continue
		}
		r, err := a.rollouts.Get(ctx, id)
		switch {
		case errors.Is(err, store.ErrNotFound):
			items = appendItem(items, kindRollout, id, rolloutChange{ID: id, Deleted: true})
			delete(known.listed, id)
		case err != nil && !errors.Is(err, store.ErrDamaged):
			continue
		case err == nil:
			add(r)
			if r.Machine.Active() {
				continue // it is beyond the newest, or has begun again
			}
		}
		delete(known.rollouts, id)
	}
	return items
}

// deletedRollouts returns the rollouts that were deleted since the last list of the newest, if it
// is time for another list. Most of them have ended long before.
func (a *api) deletedRollouts(ctx context.Context, known *knowledge) (items []item) {
	began := time.Now()
	if began.Sub(known.listedAt) < max(countsPause, countsShare*known.listCost) {
		return nil
	}
	defer func() { known.listedAt, known.listCost = began, time.Since(began) }()
	listed, oldest := map[string]bool{}, ""
	for r, err := range a.rollouts.List(ctx, store.RolloutQuery{Limit: maxCounted}) {
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			return nil // the next list tries again
		}
		listed[r.ID], oldest = true, r.ID
	}
	all := len(listed) < maxCounted
	for id := range known.listed {
		if !listed[id] && (all || id > oldest) {
			items = appendItem(items, kindRollout, id, rolloutChange{ID: id, Deleted: true})
			delete(known.rollouts, id)
		}
	}
	known.listed = listed
	return items
}

// count counts everything, if it is time for that, and reports whether something has changed.
func (a *api) count(ctx context.Context, known *knowledge) bool {
	began := time.Now()
	if began.Sub(known.counted) < max(countsPause, countsShare*known.cost) {
		return false
	}
	defer func() { known.counted, known.cost = began, time.Since(began) }()
	fleet, err := a.manager.Fleet(ctx)
	if err != nil {
		return false // the next look tries again
	}
	counts, err := a.manager.Counts(ctx, "")
	if err != nil {
		return false
	}
	e := countsEvent{
		Devices: countedDevices{fleet.Devices, viewFleet(fleet).States}, Updates: outcomeCounts(counts), Rollouts: map[string]uint64{},
	}
	if a.rollouts != nil {
		if e.Rollouts, err = a.rolloutStates(ctx); err != nil {
			return false
		}
	}
	same, err := eventOf(kindCounts, e)
	if err != nil || bytes.Equal(same, known.counts) {
		return false
	}
	e.Time = instant(began)
	known.counts = same
	known.sent, err = eventOf(kindCounts, e)
	return err == nil
}

// owners knows which rollouts have made updates.
type owners struct {
	mu sync.Mutex
	by map[string]string // rollout by update; "" if none has made it
}

const maxOwners = 10_000 // 1 MB

// of returns the rollout that has made an update, "" if none has.
func (o *owners) of(ctx context.Context, m manager, update string) string {
	o.mu.Lock()
	id, ok := o.by[update]
	o.mu.Unlock()
	if ok {
		return id
	}
	u, err := m.Get(ctx, update)
	if err != nil {
		return "" // it was deleted, or is damaged
	}
	id = ownerOf(u)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.by == nil || len(o.by) >= maxOwners {
		o.by = make(map[string]string)
	}
	o.by[update] = id
	return id
}

// ownerOf returns the rollout that has made an update.
func ownerOf(u firmware.Update) string {
	rest, ok := strings.CutPrefix(u.Key, rollout.KeyPrefix)
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(rest, "/")
	return id
}
