package lwm2m

import (
	"container/heap"
	"strings"
	"time"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/index"
)

// table indexes the devices of a server, and keeps a heap of their deadlines. The heap is lazy:
// contact only moves a deadline later, and the server checks that when the earlier one has passed.
// So a message costs no reordering, and all devices share one timer.
type table struct {
	byEndpoint index.Index[string, device]
	byID       index.Index[string, device] // with a registration
	byPeer     index.Index[coap.Peer, device]
	due        dueHeap

	// Ended registrations, which can make room: remove the ended, strip the worn, which are those
	// of secured devices.
	ended, worn map[*device]struct{}

	texts   map[string]*text
	size    int64 // bytes of text in registrations
	secured int   // number of secured devices in byEndpoint
}

// A text is a list of objects or of attributes, shared by all devices that have the same.
type text struct {
	s     string
	users int
}

func (t *text) String() string {
	if t == nil {
		return ""
	}
	return t.s
}

// textCost is the cost of a text in addition to its bytes.
const textCost = 128

// sizeOf returns the bytes of text in a registration, without the links and the attributes.
func sizeOf(r *Registration) int64 {
	return int64(len(r.Endpoint) + len(r.Binding) + len(r.SMS) + len(r.ProfileID) + len(r.Identity.Name))
}

// growth returns by how much t.size would grow if d, which may be nil, were set to r.
func (t *table) growth(d *device, r *Registration) int64 {
	n := sizeOf(r)
	if d == nil {
		return n + t.textGrowth(nil, r.Links) + t.textGrowth(nil, r.Attributes)
	}
	before := d.registration()
	return n - sizeOf(&before) + t.textGrowth(d.links, r.Links) + t.textGrowth(d.attributes(), r.Attributes)
}

// textGrowth returns by how much t.size would grow if s took the place of old.
func (t *table) textGrowth(old *text, s string) (n int64) {
	if old.String() == s {
		return 0
	}
	if old != nil && old.users == 1 {
		n -= int64(len(old.s)) + textCost
	}
	if s != "" && t.texts[s] == nil {
		n += int64(len(s)) + textCost
	}
	return n
}

func newTable() table {
	return table{
		byEndpoint: index.New(func(d *device) string { return d.endpoint }),
		byID:       index.New(func(d *device) string { return d.id }),
		byPeer:     index.New(func(d *device) coap.Peer { return d.peer }),
		ended:      make(map[*device]struct{}),
		worn:       make(map[*device]struct{}),
		texts:      make(map[string]*text),
	}
}

// add makes the record of a new endpoint.
func (t *table) add(endpoint string) *device {
	d := &device{endpoint: strings.Clone(endpoint), index: -1} // without the message that it is part of
	t.byEndpoint.Put(d)
	t.size += int64(len(endpoint))
	return d
}

// set sets d to r, and updates the counts of the table.
func (t *table) set(d *device, r Registration) {
	before, links, attributes := d.registration(), d.links, d.attributes()
	if before.Secured != r.Secured {
		if t.secured++; before.Secured {
			t.secured -= 2
		}
	}
	d.set(r, t.hold(r.Links), t.hold(r.Attributes)) // before release, since both may be the same
	t.release(links)
	t.release(attributes)
	t.size += sizeOf(&r) - sizeOf(&before)
	t.retire(d)
}

func (t *table) hold(s string) *text {
	if s == "" {
		return nil
	}
	held := t.texts[s]
	if held == nil {
		held = &text{s: s}
		t.texts[s] = held
		t.size += int64(len(s)) + textCost
	}
	held.users++
	return held
}

func (t *table) release(held *text) {
	if held == nil {
		return
	}
	if held.users--; held.users == 0 {
		delete(t.texts, held.s)
		t.size -= int64(len(held.s)) + textCost
	}
}

// retire records whether d can make room.
func (t *table) retire(d *device) {
	delete(t.ended, d)
	delete(t.worn, d)
	switch {
	case d.active():
	case !d.secured:
		t.ended[d] = struct{}{}
	case d.links != nil || d.extra != nil || d.settings().binding != "":
		t.worn[d] = struct{}{}
	}
}

// remove forgets an endpoint whose registration has ended.
func (t *table) remove(d *device) {
	t.set(d, Registration{Endpoint: d.endpoint})
	t.size -= int64(len(d.endpoint))
	delete(t.ended, d)
	t.byEndpoint.Delete(d.endpoint)
}

// strip reduces an ended registration of a secured device to its times and the fact that it is
// secured.
func (t *table) strip(d *device) {
	r := d.registration()
	t.set(d, Registration{
		Endpoint: r.Endpoint, Secured: true, Registered: r.Registered, Updated: r.Updated, LastSeen: r.LastSeen, Ended: r.Ended,
	})
}

// locate records that d is reachable at peer. It returns another device that was there before:
// messages to it would now reach d.
func (t *table) locate(d *device, peer coap.Peer) (displaced *device) {
	t.leave(d)
	if other := t.byPeer.Get(peer); other != nil {
		t.leave(other)
		displaced = other
	}
	d.peer, d.reachable = peer, true
	t.byPeer.Put(d)
	return displaced
}

// leave records that d is not reachable.
func (t *table) leave(d *device) {
	if t.byPeer.Get(d.peer) == d {
		t.byPeer.Delete(d.peer)
	}
	d.reachable = false
}

// schedule makes d due no later than at due.
func (t *table) schedule(d *device, due time.Duration) {
	switch {
	case d.index < 0:
		d.due = due
		heap.Push(&t.due, d)
	case due < d.due:
		d.due = due
		heap.Fix(&t.due, int(d.index))
	}
}

// unschedule takes d out of the heap.
func (t *table) unschedule(d *device) {
	if d.index >= 0 {
		heap.Remove(&t.due, int(d.index))
	}
}

type dueHeap []*device

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = int32(i), int32(j)
}

func (h *dueHeap) Push(x any) {
	d := x.(*device)
	d.index = int32(len(*h))
	*h = append(*h, d)
}

func (h *dueHeap) Pop() any {
	old := *h
	d := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	d.index = -1
	return d
}
