// Package work has what several packages need to call functions: pools of goroutines, locks by key,
// pauses between tries, and a guard against panics.
package work

import (
	"context"
	"math"
	"sync"
)

// maxSpare is how much room for functions an empty pool keeps.
const maxSpare = 1024

// Pool runs functions in the order in which they were added, several at once, in goroutines that
// exist only while there is work.
type Pool struct {
	// Limit is how many functions run at once.
	Limit int
	// Start runs a worker in a goroutine, and reports whether it did. The calls come one after the
	// other, all with the same function. Nil starts every worker.
	Start func(worker func()) bool

	mu      sync.Mutex
	line    []func() // those before first have been taken
	first   int
	workers int
	worker  func() // work; made once
}

// Run queues f, and does not wait. It returns false, and drops f, if f needs another worker and
// Start refuses. A function may end its goroutine (runtime.Goexit), but must not panic.
func (p *Pool) Run(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.workers < p.Limit && !p.start() {
		return false
	}
	if len(p.line) == cap(p.line) && p.first > len(p.line)/2 { // make room instead of growing
		n := copy(p.line, p.line[p.first:])
		clear(p.line[n:])
		p.line, p.first = p.line[:n], 0
	}
	p.line = append(p.line, f)
	return true
}

// Idle reports whether nothing runs or waits.
func (p *Pool) Idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.workers == 0 && len(p.line) == 0
}

// start starts a worker. p.mu is held.
func (p *Pool) start() bool {
	if p.worker == nil {
		p.worker = p.work
	}
	if p.Start == nil {
		go p.worker()
	} else if !p.Start(p.worker) {
		return false
	}
	p.workers++
	return true
}

func (p *Pool) work() {
	defer func() { // also if a function has ended the goroutine
		p.mu.Lock()
		defer p.mu.Unlock()
		p.workers--
		if len(p.line) > 0 && p.workers < p.Limit {
			p.start()
		}
	}()
	for f := p.next(); f != nil; f = p.next() {
		f()
	}
}

// next takes the first function off the queue; it returns nil if there is none.
func (p *Pool) next() func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.line) == 0 {
		return nil
	}
	f := p.line[p.first]
	p.line[p.first] = nil
	if p.first++; p.first < len(p.line) {
		return f
	}
	if p.first = 0; cap(p.line) <= maxSpare {
		p.line = p.line[:0]
	} else {
		p.line = nil
	}
	return f
}

// Locks are locks by key. A lock exists only while it is held or waited for. The zero value is
// ready to use.
type Locks struct {
	mu    sync.Mutex
	locks map[string]*lock
}

type lock struct {
	held  chan struct{} // full while the lock is held
	users int
}

// Lock takes the lock of a key, and returns a function that releases it.
func (l *Locks) Lock(key string) (unlock func()) {
	unlock, _ = l.LockAmong(key, math.MaxInt)
	return unlock
}

// LockContext is Lock, but gives up with the error of ctx if ctx ends first.
func (l *Locks) LockContext(ctx context.Context, key string) (unlock func(), err error) {
	k, _ := l.enter(key, math.MaxInt)
	select {
	case k.held <- struct{}{}:
		return func() { l.unlock(key, k) }, nil
	case <-ctx.Done():
		l.leave(key, k)
		return nil, context.Cause(ctx)
	}
}

// LockAmong is Lock if fewer than limit others hold or wait for the lock; else it returns false.
func (l *Locks) LockAmong(key string, limit int) (unlock func(), ok bool) {
	k, ok := l.enter(key, limit)
	if !ok {
		return nil, false
	}
	k.held <- struct{}{}
	return func() { l.unlock(key, k) }, true
}

// enter counts a user of a key's lock, unless limit others use it.
func (l *Locks) enter(key string, limit int) (k *lock, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k = l.locks[key]
	switch {
	case k == nil:
		if l.locks == nil {
			l.locks = make(map[string]*lock)
		}
		k = &lock{held: make(chan struct{}, 1)}
		l.locks[key] = k
	case k.users >= limit:
		return nil, false
	}
	k.users++
	return k, true
}

func (l *Locks) unlock(key string, k *lock) {
	<-k.held
	l.leave(key, k)
}

func (l *Locks) leave(key string, k *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.users--; k.users == 0 {
		delete(l.locks, key)
	}
}

// TryLock is Lock if no other holds or waits for the lock; else it returns false. It does not wait.
func (l *Locks) TryLock(key string) (unlock func(), ok bool) { return l.LockAmong(key, 1) }
