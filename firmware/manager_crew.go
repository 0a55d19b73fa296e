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
	line    []task
	workers int
}

// A task is something that a crew does. It may block.
type task interface{ work(ctx context.Context) }

// maxWorkers is how many tasks are done at once. A store puts their steps into one commit where it can.
const maxWorkers = 512

// enlist puts a task in line and reports whether it did: it does not once Run has ended.
func (c *crew) enlist(t task) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.workers < maxWorkers {
		if !c.m.spawn(c.toil) {
			return false
		}
		c.workers++
	}
	c.line = append(c.line, t)
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
		t := c.line[0]
		c.line[0] = nil
		c.line = c.line[1:]
		c.mu.Unlock()
		t.work(ctx)
	}
}

// taskFunc is a task that is a function.
type taskFunc func(ctx context.Context)

func (f taskFunc) work(ctx context.Context) { f(ctx) }
