package work

import (
	"sync"
	"time"
)

// Workers call a function in goroutines that they keep for a second or two after their last use: a
// new goroutine has to grow its stack first, which costs more than most functions do. The zero
// value, with Do, keeps none; see Keep.
type Workers[T any] struct {
	// Do is the function. It may end its goroutine (runtime.Goexit), but must not panic.
	Do func(T)

	mu     sync.Mutex
	keep   bool
	idle   []chan job[T] // of the goroutines that wait, the last one that worked last
	unused int           // how many of them, at least, have waited since the last sweep
	timer  *time.Timer   // of the next sweep; nil when no goroutine waits
}

// job is a call, or the order to end.
type job[T any] struct {
	arg T
	end bool
}

const (
	maxIdle    = 256
	sweepEvery = time.Second
)

// Go calls Do with arg in a goroutine, and does not wait for it.
func (c *Workers[T]) Go(arg T) {
	c.mu.Lock()
	last := len(c.idle) - 1
	if last < 0 {
		c.mu.Unlock()
		go c.run(arg)
		return
	}
	next := c.idle[last]
	c.idle = c.idle[:last]
	c.unused = min(c.unused, last)
	c.mu.Unlock()
	next <- job[T]{arg: arg}
}

func (c *Workers[T]) run(arg T) {
	next := make(chan job[T], 1)
	for j := (job[T]{arg: arg}); !j.end; j = <-next {
		c.Do(j.arg)
		if !c.rest(next) {
			return
		}
	}
}

// rest makes a goroutine wait. It returns false if it is not needed.
func (c *Workers[T]) rest(next chan job[T]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.keep || len(c.idle) >= maxIdle {
		return false
	}
	c.idle = append(c.idle, next)
	if c.timer == nil {
		c.unused = 0
		c.timer = time.AfterFunc(sweepEvery, c.sweep)
	}
	return true
}

// sweep ends the goroutines that have waited since the last sweep.
func (c *Workers[T]) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer == nil {
		return // Keep came first
	}
	c.end(c.unused)
	if c.unused = len(c.idle); c.unused == 0 {
		c.timer = nil
		return
	}
	c.timer.Reset(sweepEvery)
}

// Keep makes the workers keep goroutines from now on, or none any more.
func (c *Workers[T]) Keep(keep bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep = keep
	if keep {
		return
	}
	c.end(len(c.idle))
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

// end ends the n goroutines that have waited longest. c.mu is held.
func (c *Workers[T]) end(n int) {
	for _, next := range c.idle[:n] {
		next <- job[T]{end: true}
	}
	rest := copy(c.idle, c.idle[n:])
	clear(c.idle[rest:])
	c.idle = c.idle[:rest]
}
