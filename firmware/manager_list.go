package firmware

import (
	"context"
	"iter"

	"github.com/otago-iot/otago/store"
)

// List yields the updates that q selects, each as [Manager.Get] returns it, but without storing
// anything sooner. Errors are those of store.Store.Updates; with a q.Limit the last pair may be
// store.ErrShort.
func (m *Manager) List(ctx context.Context, q store.UpdateQuery) iter.Seq2[Update, error] {
	return func(yield func(Update, error) bool) {
		for u, err := range m.db.Updates(ctx, q) {
			if err == nil && u.Active() {
				if d := m.runOf(u.ID); d != nil {
					u = d.newer(u)
				}
			}
			if !yield(u, err) {
				return
			}
		}
	}
}

// Counts returns how many updates to an image there are, by outcome, or with "" those to all
// images. It reads no update; deleted ones do not count. The error is that of the store.
func (m *Manager) Counts(ctx context.Context, image string) ([]store.Count, error) {
	return m.db.Counts(ctx, image)
}

// Phases returns how many of the updates that Run takes care of are in each phase. It looks at each
// of them in memory, and reads nothing.
func (m *Manager) Phases() map[Phase]int {
	m.mu.Lock()
	runs := make([]*run, 0, len(m.runs))
	for _, r := range m.runs {
		runs = append(runs, r)
	}
	m.mu.Unlock()
	phases := make(map[Phase]int, 8)
	for _, r := range runs {
		r.mu.Lock()
		phase, counts := r.u.Machine.Phase, !r.stopped
		r.mu.Unlock()
		if counts {
			phases[phase]++
		}
	}
	return phases
}
