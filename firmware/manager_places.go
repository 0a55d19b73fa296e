package firmware

import (
	"container/list"
	"sync"
)

// A lane is a kind of actions that share places.
type lane uint8

const (
	laneRequest   lane = iota // reads, writes, executes: short
	laneTransfer              // pushes: long
	laneInventory             // reads of the inventory
	lanes
)

// places limits the actions in progress. An action takes a place of its lane before its first
// message goes out. It returns the place as soon as the device leaves a message unanswered or asks
// the server to retry later, so that silent devices do not delay those that answer. A second,
// larger limit applies to actions that wait for silent devices.
//
// A device that left its last request unanswered takes a place for some seconds each time it is
// tried. Such doubtful actions get a quarter of the places.
type places struct {
	mu    sync.Mutex
	free  [lanes]int
	line  [lanes]list.List // of *place that wait for one
	doubt [lanes]doubtful

	quiet    list.List // of *place whose device is silent, the longest first
	maxQuiet int
	parallel int // places of each lane
	share    int // places for doubtful actions; 0: they go only if no other waits
}

// doubtful counts the doubtful actions of a lane.
type doubtful struct {
	line list.List // of *place that wait for one
	held int
}

func newPlaces(parallel, silent int) *places {
	p := &places{maxQuiet: silent, parallel: parallel, share: parallel / 4}
	p.free = [lanes]int{laneRequest: parallel, laneTransfer: parallel, laneInventory: parallel}
	return p
}

// A place is the share of one action in places. That of an action which has not entered is empty.
type place struct {
	in   *places
	lane lane
	of   placeHolder

	doubt   bool // the device left its last request unanswered
	state   placeState
	element *list.Element // in line or quiet
}

// A placeHolder is an action. Its methods are called in goroutines of their own.
type placeHolder interface {
	granted() // it was queued, and has a place now
	evict()   // other silent devices need its place
}

type placeState uint8

const (
	placeNone placeState = iota
	placeWaiting
	placeHeld
	placeQuiet
	placeGone
)

// enter takes a place for an action, or queues it for one, and reports whether it has one. If not,
// granted is called once it has.
func (p *places) enter(pl *place, l lane, doubt bool, of placeHolder) (now bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*pl = place{in: p, lane: l, of: of, doubt: doubt}
	if p.free[l] > 0 && (!doubt || p.doubt[l].held < max(1, p.share)) {
		pl.take()
		return true
	}
	pl.state = placeWaiting
	pl.element = pl.queue().PushBack(pl)
	return false
}

// queue returns the queue of the action.
func (pl *place) queue() *list.List {
	if pl.doubt {
		return &pl.in.doubt[pl.lane].line
	}
	return &pl.in.line[pl.lane]
}

// take takes a free place. p.mu is held.
func (pl *place) take() {
	pl.state, pl.element = placeHeld, nil
	pl.in.free[pl.lane]--
	if pl.doubt {
		pl.in.doubt[pl.lane].held++
	}
}

// free returns a held place. p.mu is held.
func (pl *place) free() {
	pl.in.free[pl.lane]++
	if pl.doubt {
		pl.in.doubt[pl.lane].held--
	}
	pl.in.grant(pl.lane)
}

// silent returns the place while the device is silent. If too many actions wait for silent devices,
// silent evicts the one that has waited for longest.
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
		go first.of.evict()
	}
	pl.state = placeQuiet
	pl.element = p.quiet.PushBack(pl)
	pl.free()
}

// heard takes a place at once: the device answers, so the action will end soon. For a moment the
// actions may hold more places than exist.
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

// leave returns everything that the action holds. It may be called several times.
func (pl *place) leave() {
	p := pl.in
	if p == nil {
		return
	}
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

// grant gives free places to queued actions. p.mu is held.
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
		go next.of.granted()
	}
}
