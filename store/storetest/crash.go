package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/otago-iot/otago/store"
)

// ErrCrashed is the error of every call of a [Crash] after its cut.
var ErrCrashed = errors.New("storetest: the process has crashed")

// A Cut is the moment at which a process dies: just before its n-th point takes effect or, with
// After, just after it took effect but before the process knows. Points are commits, and calls of
// [Crash.Effect]; the first is 1. The zero Cut never comes.
type Cut struct {
	Point int
	After bool
}

// String returns text such as "before 3".
func (c Cut) String() string {
	switch {
	case c.Point == 0:
		return "never"
	case c.After:
		return fmt.Sprintf("after %d", c.Point)
	}
	return fmt.Sprintf("before %d", c.Point)
}

// Cuts yields all cuts of a run with the given number of points. A first run with the zero Cut
// counts them: see [Crash.Points]. A run with fewer points ends without a crash; [Crash.Crashed]
// says so.
func Cuts(points int) iter.Seq[Cut] {
	return func(yield func(Cut) bool) {
		for n := range points {
			if !yield(Cut{Point: n + 1}) || !yield(Cut{Point: n + 1, After: true}) {
				return
			}
		}
	}
}

// A Crash is a store as a process that dies at a [Cut] sees it: every later call fails with
// ErrCrashed and changes nothing, so that the process has no effect any more. What it wrote before
// stays in the store below, where the next process finds it. Close does not close that store.
type Crash struct {
	store.Store // answers until the cut

	cut  Cut
	stop func()

	mu      sync.Mutex // held at a point, so that none takes effect after the cut
	points  int
	crashed chan struct{}
}

// NewCrash returns a store over s that crashes at the cut. It then calls stop, if that is not nil,
// once and before the call returns: there a test cancels the parts of the process. Stop must not
// wait for the process, which may wait for it.
func NewCrash(s store.Store, cut Cut, stop func()) *Crash {
	c := &Crash{cut: cut, stop: stop, crashed: make(chan struct{})}
	c.Store = &Faulty{Store: s, Before: func(context.Context, Call) error {
		if c.dead() {
			return ErrCrashed
		}
		return nil
	}}
	return c
}

// Points returns how many points the process has reached.
func (c *Crash) Points() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.points
}

// Crashed returns a channel that is closed at the cut.
func (c *Crash) Crashed() <-chan struct{} { return c.crashed }

// Effect is a point for an effect of the process outside its store: it calls effect unless the
// process is dead, or dies before it. It returns effect's error or ErrCrashed. No other point comes
// meanwhile, so effect must not commit.
func (c *Crash) Effect(effect func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead() {
		return ErrCrashed
	}
	c.points++
	here := c.points == c.cut.Point
	if here && !c.cut.After {
		return c.die()
	}
	err := effect()
	if here {
		return c.die()
	}
	return err
}

func (c *Crash) die() error {
	close(c.crashed)
	if c.stop != nil {
		c.stop()
	}
	return ErrCrashed
}

func (c *Crash) dead() bool {
	select {
	case <-c.crashed:
		return true
	default:
		return false
	}
}

// Commit implements store.Store. It is a point if there are changes. Commits run one at a time.
func (c *Crash) Commit(ctx context.Context, changes ...store.Change) (seq uint64, err error) {
	if len(changes) == 0 {
		return c.Store.Commit(ctx)
	}
	err = c.Effect(func() error {
		seq, err = c.Store.Commit(ctx, changes...)
		return err
	})
	if err != nil {
		return 0, err
	}
	return seq, nil
}

// Close implements store.Store.
func (c *Crash) Close() error { return nil }
