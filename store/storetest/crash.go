package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/otago-iot/otago/store"
)

// ErrCrashed is what every call of a [Crash] returns after its cut.
var ErrCrashed = errors.New("storetest: the process has crashed")

// A Cut is the moment at which a process dies: just before its n-th point takes effect or, with After, just after it did
// but before the process heard of it. Points are commits, and what goes through [Crash.Effect]; the first is 1. The zero
// Cut never comes.
type Cut struct {
	Point int
	After bool
}

// String returns such as "before 3".
func (c Cut) String() string {
	switch {
	case c.Point == 0:
		return "never"
	case c.After:
		return fmt.Sprintf("after %d", c.Point)
	}
	return fmt.Sprintf("before %d", c.Point)
}

// Cuts yields all cuts of a run that has the given number of points, which a first run with the zero Cut has counted: see
// [Crash.Points]. A test that meets fewer points when it runs again ends without a crash; [Crash.Crashed] tells.
func Cuts(points int) iter.Seq[Cut] {
	return func(yield func(Cut) bool) {
		for n := range points {
			if !yield(Cut{Point: n + 1}) || !yield(Cut{Point: n + 1, After: true}) {
				return
			}
		}
	}
}

// A Crash is a store as a process sees it that dies at a [Cut]: from then on every call fails with ErrCrashed and changes
// nothing, so that what the process still does has no effect. What it wrote before stays in the store below, where the
// next process finds it. Close does nothing to the store below.
type Crash struct {
	below store.Store
	cut   Cut
	stop  func()

	mu      sync.Mutex // held at a point, so that none takes effect after the cut
	points  int
	crashed chan struct{}
}

// NewCrash returns a store over s that crashes at the cut. It then calls stop, if that is not nil, once and before the call
// returns: a test cancels there what the process is made of. It must not wait for the process, which may wait for it.
func NewCrash(s store.Store, cut Cut, stop func()) *Crash {
	return &Crash{below: s, cut: cut, stop: stop, crashed: make(chan struct{})}
}

// Points returns how many points were met so far.
func (c *Crash) Points() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.points
}

// Crashed is closed when the cut came.
func (c *Crash) Crashed() <-chan struct{} { return c.crashed }

// Effect makes a point of what the process does to the world outside its store: it calls effect unless the process is
// dead, or dies before it. It returns effect's error or ErrCrashed. No other point comes meanwhile, so effect must not
// commit.
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

// Commit implements store.Store. It is a point if there are changes. Commits do not run beside each other.
func (c *Crash) Commit(ctx context.Context, changes ...store.Change) (seq uint64, err error) {
	commit := func() error {
		seq, err = c.below.Commit(ctx, changes...)
		return err
	}
	if len(changes) == 0 {
		if c.dead() {
			return 0, ErrCrashed
		}
		err := commit()
		return seq, err
	}
	if err := c.Effect(commit); err != nil {
		return 0, err
	}
	return seq, nil
}

// Update implements store.Store.
func (c *Crash) Update(ctx context.Context, id string) (store.Update, error) {
	if c.dead() {
		return store.Update{}, ErrCrashed
	}
	return c.below.Update(ctx, id)
}

// Image implements store.Store.
func (c *Crash) Image(ctx context.Context, id string) (store.Image, error) {
	if c.dead() {
		return store.Image{}, ErrCrashed
	}
	return c.below.Image(ctx, id)
}

// Device implements store.Store.
func (c *Crash) Device(ctx context.Context, endpoint string) (store.Device, error) {
	if c.dead() {
		return store.Device{}, ErrCrashed
	}
	return c.below.Device(ctx, endpoint)
}

// Updates implements store.Store.
func (c *Crash) Updates(ctx context.Context, q store.UpdateQuery) iter.Seq2[store.Update, error] {
	return whileAlive(c, c.below.Updates(ctx, q))
}

// Events implements store.Store.
func (c *Crash) Events(ctx context.Context, q store.EventQuery) iter.Seq2[store.Event, error] {
	return whileAlive(c, c.below.Events(ctx, q))
}

// Images implements store.Store.
func (c *Crash) Images(ctx context.Context, q store.ImageQuery) iter.Seq2[store.Image, error] {
	return whileAlive(c, c.below.Images(ctx, q))
}

// Devices implements store.Store.
func (c *Crash) Devices(ctx context.Context, q store.DeviceQuery) iter.Seq2[store.Device, error] {
	return whileAlive(c, c.below.Devices(ctx, q))
}

// Close implements store.Store.
func (c *Crash) Close() error { return nil }

func whileAlive[T any](c *Crash, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		if c.dead() {
			yield(zero, ErrCrashed)
			return
		}
		for record, err := range seq {
			if c.dead() {
				yield(zero, ErrCrashed)
				return
			}
			if !yield(record, err) {
				return
			}
		}
	}
}
