package firmware

import (
	"container/list"
	"sync"
)

// lane is what an errand shares places with.
type lane uint8

const (
	laneRequest   lane = iota // reads, writes, executes: short
	laneTransfer              // pushes: long
	laneInventory             // reads for which nobody waits
	lanes
)

// places bounds what is under way with devices. An errand takes a place of its lane before its first message goes out. It
// gives the place up as soon as the device leaves a message unanswered, so that devices that are silent do not hold up
// those that answer; how many errands wait for silent devices is bounded too, by another, larger number.
type places struct {
	mu   sync.Mutex
	free [lanes]int
	line [lanes]list.List // of *place that wait for one

	quiet    list.List // of *place whose device is silent, the longest first
	maxQuiet int
}

func newPlaces(parallel, silent int) *places {
	p := &places{maxQuiet: silent}
	p.free = [lanes]int{laneRequest: parallel, laneTransfer: parallel, laneInventory: max(1, parallel/4)}
	return p
}

// place is what one errand holds of places.
type place struct {
	in    *places
	lane  lane
	start func() // called, in a goroutine of its own, when a place becomes free that was waited for
	evict func() // called, likewise, when the errand is to give up in favour of others that wait for silent devices

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
func (p *places) enter(l lane, start, evict func()) (pl *place, now bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pl = &place{in: p, lane: l, start: start, evict: evict}
	if p.free[l] > 0 {
		p.free[l]--
		pl.state = placeHeld
		return pl, true
	}
	pl.state = placeWaiting
	pl.element = p.line[l].PushBack(pl)
	return pl, false
}

// silent gives the place up while the device is silent. If as many errands as may wait for silent devices already, the one
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
	p.free[pl.lane]++
	p.grant(pl.lane)
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
	pl.state, pl.element = placeHeld, nil
	p.free[pl.lane]--
}

// leave gives back whatever the errand holds. It may be called several times.
func (pl *place) leave() {
	p := pl.in
	p.mu.Lock()
	defer p.mu.Unlock()
	switch pl.state {
	case placeWaiting:
		p.line[pl.lane].Remove(pl.element)
	case placeQuiet:
		p.quiet.Remove(pl.element)
	case placeHeld:
		p.free[pl.lane]++
		p.grant(pl.lane)
	}
	pl.state, pl.element = placeGone, nil
}

// grant lets those go who stand in line, as far as there are places. p.mu is held.
func (p *places) grant(l lane) {
	for p.free[l] > 0 && p.line[l].Len() > 0 {
		next := p.line[l].Remove(p.line[l].Front()).(*place)
		next.state, next.element = placeHeld, nil
		p.free[l]--
		go next.start()
	}
}
