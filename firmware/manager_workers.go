package firmware

import (
	"context"
	"sync"
)

// workers do tasks, oldest first, a limited number at a time. A hundred thousand updates that are loaded
// at once, or that have a step to take while the store fails, so cost no goroutine each.
type workers struct {
	most  int                              // tasks done at once
	spawn func(func(context.Context)) bool // begins a goroutine, and reports whether it did

	mu    sync.Mutex
	line  []task
	count int
}

// A task is something that workers do. It may block.
type task interface{ work(ctx context.Context) }

// taskFunc is a task that is a function.
type taskFunc func(ctx context.Context)

func (f taskFunc) work(ctx context.Context) { f(ctx) }

// add puts a task in line and reports whether it did: it does not when no goroutine can be begun.
func (w *workers) add(t task) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count < w.most {
		if !w.spawn(w.run) {
			return false
		}
		w.count++
	}
	w.line = append(w.line, t)
	return true
}

// run does tasks until none is in line.
func (w *workers) run(ctx context.Context) {
	for {
		w.mu.Lock()
		if len(w.line) == 0 {
			w.line = nil
			w.count--
			w.mu.Unlock()
			return
		}
		t := w.line[0]
		w.line[0] = nil
		w.line = w.line[1:]
		w.mu.Unlock()
		t.work(ctx)
	}
}
