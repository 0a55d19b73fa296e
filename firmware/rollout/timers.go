package rollout

import (
	"container/heap"
	"time"
)

// timers say when members need a tick: one for each member.
type timers struct {
	at   map[string]time.Time
	heap timerHeap // with some that do not hold any more
}

type timer struct {
	at       time.Time
	endpoint string
}

// set sets the timer of a member; the zero time takes it away.
func (t *timers) set(endpoint string, at time.Time) {
	switch {
	case at.IsZero():
		delete(t.at, endpoint)
		return
	case t.at == nil:
		t.at = map[string]time.Time{}
	case t.at[endpoint].Equal(at):
		return
	}
	t.at[endpoint] = at
	heap.Push(&t.heap, timer{at, endpoint})
	if len(t.heap) > 2*len(t.at)+1000 {
		t.heap = t.heap[:0]
		for endpoint, at := range t.at {
			t.heap = append(t.heap, timer{at, endpoint})
		}
		heap.Init(&t.heap)
	}
}

// next returns the time of the next timer, or the zero time.
func (t *timers) next() time.Time {
	for len(t.heap) > 0 {
		if first := t.heap[0]; t.at[first.endpoint].Equal(first.at) {
			return first.at
		}
		heap.Pop(&t.heap)
	}
	return time.Time{}
}

// due adds the members whose time has come.
func (t *timers) due(now time.Time, looks map[string]hint) {
	for next := t.next(); !next.IsZero() && !next.After(now); next = t.next() {
		endpoint := heap.Pop(&t.heap).(timer).endpoint
		delete(t.at, endpoint)
		looks[endpoint] = hint{}
	}
}

type timerHeap []timer

func (t timerHeap) Len() int           { return len(t) }
func (t timerHeap) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timerHeap) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timerHeap) Push(x any)        { *t = append(*t, x.(timer)) }
func (t *timerHeap) Pop() any {
	old := *t
	x := old[len(old)-1]
	*t = old[:len(old)-1]
	return x
}
