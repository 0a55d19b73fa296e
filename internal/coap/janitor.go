package coap

import (
	"sync"
	"time"
)

// janitor forgets, now and then, what has grown old. It sleeps while there is
// nothing.
type janitor struct {
	timer
	e  *Endpoint
	mu sync.Mutex
	on bool
}

const janitorPeriod = 30 * time.Second

func (j *janitor) wake() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.on {
		j.on = true
		j.timer.owner = j
		j.e.timers.set(&j.timer, janitorPeriod)
	}
}

func (j *janitor) expire() {
	now := j.e.timers.now()
	for j.e.table.sweep(now) {
		// in steps, so that the table is never locked for long
	}
	j.e.dedup.expire(now)
	j.e.secure.expire(now)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.on = j.e.table.queued()
	if j.on {
		j.e.timers.set(&j.timer, janitorPeriod)
	}
}
