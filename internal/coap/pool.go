package coap

import (
	"sync"
)

// pool runs requests with a bounded number of workers, and lets a bounded number wait. Workers live
// only as long as there is work. Both are shared by the groups of peers, whose requests take turns.
type pool struct {
	mu      sync.Mutex
	queues  [groups]fifo[*incoming]
	turn    group   // whose request was the last to be taken off its queue
	workers *shares // requests that are served
	waiting *shares // those that wait, in a queue or for others of their peer; see inbox
}

// submit has in served, or returns false when there are too many.
func (p *pool) submit(in *incoming) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.workers.take(in.group, 1):
		go p.work(in)
	case p.waiting.take(in.group, 1):
		p.queues[in.group].push(in)
	default:
		return false
	}
	return true
}

// park counts a request that will be resubmitted, or returns false when there are too many.
func (p *pool) park(in *incoming) bool { return p.waiting.take(in.group, 1) }

// resubmit is submit for one that was parked.
func (p *pool) resubmit(in *incoming) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.workers.take(in.group, 1) {
		p.waiting.give(in.group, 1)
		go p.work(in)
		return
	}
	p.queues[in.group].push(in)
}

func (p *pool) work(in *incoming) {
	var c group
	defer func() {
		if in != nil { // a callback has ended the goroutine
			if in = p.next(c); in != nil {
				go p.work(in)
			}
		}
	}()
	for in != nil {
		c = in.group
		in.serve()
		in = p.next(c)
	}
}

// next returns the next request for a worker that has served one of a group, or nil if none that
// waits may be served. The groups take turns.
func (p *pool) next(done group) *incoming {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.workers.give(done, 1)
	for range groups {
		p.turn = (p.turn + 1) % groups
		if p.queues[p.turn].len() > 0 && p.workers.take(p.turn, 1) {
			p.waiting.give(p.turn, 1)
			return p.queues[p.turn].pop()
		}
	}
	return nil
}

// fifo is a queue in a ring buffer that grows. The zero value is empty.
type fifo[T any] struct {
	ring []T
	head int
	n    int
}

func (f *fifo[T]) len() int { return f.n }

func (f *fifo[T]) push(v T) {
	if f.n == len(f.ring) {
		ring := make([]T, max(8, 2*len(f.ring)))
		for i := range f.n {
			ring[i] = f.ring[(f.head+i)%len(f.ring)]
		}
		f.ring, f.head = ring, 0
	}
	f.ring[(f.head+f.n)%len(f.ring)] = v
	f.n++
}

// front returns the oldest element of a queue that is not empty.
func (f *fifo[T]) front() T { return f.ring[f.head] }

// pop removes the oldest element of a queue that is not empty.
func (f *fifo[T]) pop() T {
	var zero T
	v := f.ring[f.head]
	f.ring[f.head] = zero
	f.head = (f.head + 1) % len(f.ring)
	f.n--
	if f.n == 0 && len(f.ring) > 1024 {
		f.ring, f.head = nil, 0
	}
	return v
}
