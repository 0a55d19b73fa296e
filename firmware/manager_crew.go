package firmware

import (
	"context"
	"sync"
)

// A crew takes the steps of updates. It is small, so that a hundred thousand updates that are loaded at once, or that have
// something to step for while the store fails, cost no goroutine each: they stand in line.
type crew struct {
	m *Manager

	mu      sync.Mutex
	line    []*drive
	workers int
}

// maxWorkers is how many steps are taken at once. A store puts them into one commit where it can.
const maxWorkers = 512

// enlist puts a drive in line and reports whether it did: it does not once Run has ended.
func (c *crew) enlist(d *drive) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.workers < maxWorkers {
		if !c.m.spawn(c.toil) {
			return false
		}
		c.workers++
	}
	c.line = append(c.line, d)
	return true
}

// toil works until nobody stands in line.
func (c *crew) toil(ctx context.Context) {
	for {
		c.mu.Lock()
		if len(c.line) == 0 {
			c.line = nil
			c.workers--
			c.mu.Unlock()
			return
		}
		d := c.line[0]
		c.line = c.line[1:]
		c.mu.Unlock()
		d.work(ctx)
	}
}
