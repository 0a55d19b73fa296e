package coap

import "sync"

// pool runs requests with a bounded number of workers, and lets a bounded
// number wait. Workers live only as long as there is work.
type pool struct {
	mu      sync.Mutex
	running int
	queue   fifo[*incoming]
	parked  int // requests that wait for others of their peer; see inbox
	workers int
	waiting int
}

// submit has in served, or returns false when there are too many.
func (p *pool) submit(in *incoming) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running >= p.workers && !p.room() {
		return false
	}
	p.add(in)
	return true
}

// park counts a request that will be resubmitted, or returns false when there are
// too many.
func (p *pool) park() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.room() {
		return false
	}
	p.parked++
	return true
}

// resubmit is submit for one that was parked.
func (p *pool) resubmit(in *incoming) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parked--
	p.add(in)
}

func (p *pool) room() bool { return p.queue.len()+p.parked < p.waiting }

func (p *pool) add(in *incoming) {
	if p.running < p.workers {
		p.running++
		go p.work(in)
		return
	}
	p.queue.push(in)
}

func (p *pool) work(in *incoming) {
	for {
		in.serve()
		p.mu.Lock()
		if p.queue.len() == 0 {
			p.running--
			p.mu.Unlock()
			return
		}
		in = p.queue.pop()
		p.mu.Unlock()
	}
}
