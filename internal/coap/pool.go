package coap

import (
	"sync"

	"github.com/otago-iot/otago/internal/work"
)

// pool runs requests with a bounded number of workers and a bounded queue. The groups of peers
// share both, and their requests take turns.
type pool struct {
	spare   work.Workers[*incoming]
	mu      sync.Mutex
	queues  [groups]fifo[*incoming]
	turn    group   // group of the last request taken off a queue
	workers *shares // requests in handlers
	waiting *shares // requests in a queue, or waiting for others of their peer; see inbox
}

// queueUnit is how many bytes of a waiting request count as one request.
const queueUnit = 1024

// submit serves or queues in. It returns false when there are too many requests.
func (p *pool) submit(in *incoming) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.workers.take(in.group, 1):
		p.spare.Go(in)
	case p.waiting.take(in.group, in.share):
		in.compact()
		p.queues[in.group].push(in)
	default:
		return false
	}
	return true
}

// park counts a request that will be resubmitted. It returns false when there are too many.
func (p *pool) park(in *incoming) bool {
	if !p.waiting.take(in.group, in.share) {
		return false
	}
	in.compact()
	return true
}

// resubmit is submit for a parked request.
func (p *pool) resubmit(in *incoming) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.workers.take(in.group, 1) {
		p.waiting.give(in.group, in.share)
		p.spare.Go(in)
		return
	}
	p.queues[in.group].push(in)
}

func (p *pool) work(in *incoming) {
	var c group
	defer func() {
		if in != nil { // a callback has ended the goroutine
			if in = p.next(c); in != nil {
				p.spare.Go(in)
			}
		}
	}()
	for in != nil {
		c = in.group
		in.serve()
		in = p.next(c)
	}
}

// next returns the next request for a worker that has served one of group done, or nil if no
// waiting request may be served. The groups take turns.
func (p *pool) next(done group) *incoming {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.workers.give(done, 1)
	for range groups {
		p.turn = (p.turn + 1) % groups
		if p.queues[p.turn].len() > 0 && p.workers.take(p.turn, 1) {
			in := p.queues[p.turn].pop()
			p.waiting.give(p.turn, in.share)
			return in
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
