package coap

import "sync"

// pool runs requests with a bounded number of workers, and lets a bounded
// number wait. Workers live only as long as there is work.
type pool struct {
	mu      sync.Mutex
	running int
	queue   fifo[*incoming]
	workers int
	waiting int
}

// submit has in served, or returns false when there are too many.
func (p *pool) submit(in *incoming) bool { return p.add(in, p.waiting) }

// resubmit is submit for one that was accepted before.
func (p *pool) resubmit(in *incoming) { p.add(in, int(^uint(0)>>1)) }

func (p *pool) add(in *incoming, limit int) bool {
	p.mu.Lock()
	if p.running < p.workers {
		p.running++
		p.mu.Unlock()
		go p.work(in)
		return true
	}
	defer p.mu.Unlock()
	if p.queue.len() >= limit {
		return false
	}
	p.queue.push(in)
	return true
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
