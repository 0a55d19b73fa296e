package lwm2m

import (
	"container/heap"
	"time"

	"github.com/otago-iot/otago/internal/coap"
)

// table holds the devices of a server by all that they are looked up by, and a heap of the times at which something about
// them falls due. The heap is lazy: a device that is heard only gets later deadlines, and they are looked at when the
// earlier one has passed. So a message costs no reordering, and all devices together one timer.
type table struct {
	byEndpoint map[string]*device
	byID       map[string]*device // with a registration
	byPeer     map[coap.Peer]*device
	due        dueHeap
}

func newTable() table {
	return table{
		byEndpoint: make(map[string]*device),
		byID:       make(map[string]*device),
		byPeer:     make(map[coap.Peer]*device),
	}
}

// add makes the record of an endpoint that was not known.
func (t *table) add(endpoint string) *device {
	d := &device{endpoint: endpoint, index: -1}
	t.byEndpoint[endpoint] = d
	return d
}

// remove forgets an endpoint whose registration has ended.
func (t *table) remove(d *device) { delete(t.byEndpoint, d.endpoint) }

// locate makes peer the way to d. It returns the device that was there before, if there was another: what would be sent to
// that would reach d now.
func (t *table) locate(d *device, peer coap.Peer) (displaced *device) {
	t.leave(d)
	if other := t.byPeer[peer]; other != nil {
		t.leave(other)
		displaced = other
	}
	d.peer, d.reachable = peer, true
	t.byPeer[peer] = d
	return displaced
}

// leave forgets the way to d.
func (t *table) leave(d *device) {
	if t.byPeer[d.peer] == d {
		delete(t.byPeer, d.peer)
	}
	d.reachable = false
}

// evict drops the record of an endpoint whose registration ended and that nothing depends on, if it finds one quickly.
func (t *table) evict() bool {
	tries := 0
	for endpoint, d := range t.byEndpoint {
		if !d.active() && !d.secured && d.activity == nil {
			delete(t.byEndpoint, endpoint)
			return true
		}
		if tries++; tries == 64 {
			return false
		}
	}
	return false
}

// schedule sees to it that d is looked at no later than at due.
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
