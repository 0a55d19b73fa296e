package firmware

import (
	"container/list"
	"sync"
)

// lane is what an action shares places with.
type lane uint8

const (
	laneRequest   lane = iota // reads, writes, executes: short
	laneTransfer              // pushes: long
	laneInventory             // reads for which nobody waits
	lanes
)

// places bounds what is under way with devices. An action takes a place of its lane before its first message goes out. It
// gives the place up as soon as the device leaves a message unanswered, or asks to be asked later, so that silent devices do
// not hold up those that answer. How many actions wait for silent devices is bounded too, by another, larger number.
//
// A device that has left the last request unanswered costs a place for some seconds each time that it is tried again. Actions
// with those are doubtful: a quarter of the places is theirs, and no more.
type places struct {
	mu    sync.Mutex
	free  [lanes]int
	line  [lanes]list.List // of *place that wait for one
	doubt [lanes]doubtful

	quiet    list.List // of *place whose device is silent, the longest first
	maxQuiet int
	share    int // of doubtful actions; 0: they go when no other is in line
}

// doubtful is the share of doubtful actions in a lane.
type doubtful struct {
	line list.List // of *place that wait for one
	held int
}

func newPlaces(parallel, silent int) *places {
	p := &places{maxQuiet: silent, share: parallel / 4}
	p.free = [lanes]int{laneRequest: parallel, laneTransfer: parallel, laneInventory: parallel}
	return p
}

// place is what one action holds of places.
type place struct {
	in    *places
	lane  lane
	start func() // called, in a goroutine of its own, when a place becomes free that was waited for
	evict func() // called, likewise, when the action is to give up in favour of others that wait for silent devices

	doubt   bool // the device has left the last request unanswered
	state   placeState
	element *list.Element // in line or quiet
}

type placeState uint8

const (
	placeNone placeState = iota
	placeWaiting
	placeHeld
	placeQuiet
	placeGone
)

// enter takes a place, or stands in line for one. It reports whether it has one: if not, start is called once it has.
func (p *places) enter(l lane, doubt bool, start, evict func()) (pl *place, now bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pl = &place{in: p, lane: l, doubt: doubt, start: start, evict: evict}
	if p.free[l] > 0 && (!doubt || p.doubt[l].held < max(1, p.share)) {
		pl.take()
		return pl, true
	}
	pl.state = placeWaiting
	pl.element = pl.queue().PushBack(pl)
	return pl, false
}

// queue is the line in which the action stands.
func (pl *place) queue() *list.List {
	if pl.doubt {
		return &pl.in.doubt[pl.lane].line
	}
	return &pl.in.line[pl.lane]
}

// take takes a free place. The lock is held.
func (pl *place) take() {
	pl.state, pl.element = placeHeld, nil
	pl.in.free[pl.lane]--
	if pl.doubt {
		pl.in.doubt[pl.lane].held++
	}
}

// free gives the place that is held to others. The lock is held.
func (pl *place) free() {
	pl.in.free[pl.lane]++
	if pl.doubt {
		pl.in.doubt[pl.lane].held--
	}
	pl.in.grant(pl.lane)
}

// silent gives the place up while the device is silent. If as many actions as may wait for silent devices already, the one
// that has waited for longest gives up.
func (pl *place) silent() {
	p := pl.in
	p.mu.Lock()
	defer p.mu.Unlock()
	if pl.state != placeHeld {
		return
	}
	if p.quiet.Len() >= p.maxQuiet {
		first := p.quiet.Remove(p.quiet.Front()).(*place)
		first.state, first.element = placeGone, nil
		go first.evict()
	}
	pl.state = placeQuiet
	pl.element = p.quiet.PushBack(pl)
	pl.free()
}

// heard takes a place again, at once: the device is there, and makes it short. For a moment more may be held than there
// are, but not more than were silent.
func (pl *place) heard() {
	p := pl.in
	p.mu.Lock()
	defer p.mu.Unlock()
	if pl.state != placeQuiet {
		return
	}
	p.quiet.Remove(pl.element)
	pl.doubt = false
	pl.take()
}

// leave gives back whatever the action holds. It may be called several times.
func (pl *place) leave() {
	p := pl.in
	p.mu.Lock()
	defer p.mu.Unlock()
	switch pl.state {
	case placeWaiting:
		pl.queue().Remove(pl.element)
	case placeQuiet:
		p.quiet.Remove(pl.element)
	case placeHeld:
		pl.free()
	}
	pl.state, pl.element = placeGone, nil
}

// grant lets those go who stand in line, as far as there are places. p.mu is held.
func (p *places) grant(l lane) {
	for p.free[l] > 0 {
		sure, doubtful := &p.line[l], &p.doubt[l].line
		from := sure
		if held := p.doubt[l].held; doubtful.Len() > 0 && (held < p.share || held == 0 && sure.Len() == 0) {
			from = doubtful
		}
		if from.Len() == 0 {
			return
		}
		next := from.Remove(from.Front()).(*place)
		next.take()
		go next.start()
	}
}
