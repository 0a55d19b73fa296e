package kv

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// maxGroup limits how many commits share a transaction.
const maxGroup = 1024

// A transaction costs half a dozen pages and two fsyncs, whatever it has. So while groups have more
// than one commit, each waits for company: until gatherMany have come, or none has come for
// gatherPause, or gatherPauses of these are over. A caller alone does not wait.
const (
	gatherMany   = 64
	gatherPause  = time.Millisecond
	gatherPauses = 4
	gatherFrom   = 1.25 // commits in a group, on average over a dozen groups
)

// A Store is a store.Store over a Backend.
type Store struct {
	backend Backend
	group   bool

	closing sync.RWMutex // read-locked while a call runs
	closed  bool

	mu      sync.Mutex // guards queue and drained
	queue   []*commit
	drained bool          // a goroutine drains the queue
	many    chan struct{} // of capacity 1; has a value when the queue has grown to gatherMany
	average float64       // size of the latest groups; only of drain

	overlay *overlay  // for the commit that is applied in a transaction
	commits sync.Pool // of *commit; its own, as a channel made in a bubble of synctest stays there
	ends    store.Commits
}

type commit struct {
	changes  []store.Change
	rollouts []store.RolloutChange
	update   store.Update // for encode
	seq      uint64
	err      error
	done     chan struct{} // of capacity 1; has a value when the commit has ended
}

// newCommit returns an empty commit.
func (s *Store) newCommit() *commit {
	if c, ok := s.commits.Get().(*commit); ok {
		return c
	}
	return &commit{done: make(chan struct{}, 1)}
}

// encode returns the change that replaces an update. Most commits have one, and an update is large,
// so it is encoded at once.
func (c *commit) encode(u *store.Update) (store.Change, error) {
	c.update = *u
	defer func() { c.update = store.Update{} }()
	if err := c.update.Normalize(); err != nil {
		return nil, err
	}
	r := &replacement{
		id: u.ID, revision: u.Revision, outcome: u.Machine.Outcome, end: c.update.End(), changed: make([]byte, 0, 512),
	}
	var err error
	if r.changed, err = updateCodec.AppendRange(r.changed, &c.update, firstChanged, math.MaxUint64); err != nil {
		err = fmt.Errorf("%w: %w", store.ErrInvalid, err)
	}
	return r, err
}

// A creation is a normalized store.CreateUpdate that is used again, as an update is large.
type creation struct {
	store.Change // nil: it makes this one
	update       store.Update
	scratch      []byte
}

var creations = sync.Pool{New: func() any { return new(creation) }}

// create returns the change that creates an update.
func create(u *store.Update) (store.Change, error) {
	c := creations.Get().(*creation)
	c.update = *u
	c.update.Labels, c.update.Tokens = maps.Clone(u.Labels), slices.Clone(u.Tokens)
	err := c.update.Normalize()
	if err == nil {
		if c.scratch, err = appendUpdate(c.scratch[:0], &c.update); err != nil {
			err = fmt.Errorf("%w: %w", store.ErrInvalid, err)
		}
	}
	return c, err
}

// A replacement is a store.ReplaceUpdate whose update is encoded.
type replacement struct {
	store.Change // nil: it makes this one
	id           string
	revision     uint64
	outcome      fsm.Outcome
	end          time.Time
	changed      []byte // the fields from firstChanged on
}

// free lets another call use the commit, which is in no queue.
func (s *Store) free(c *commit) {
	for _, change := range c.changes {
		if made, ok := change.(*creation); ok {
			made.update = store.Update{}
			creations.Put(made)
		}
	}
	clear(c.changes)
	clear(c.rollouts)
	c.changes, c.rollouts, c.seq, c.err = c.changes[:0], c.rollouts[:0], 0, nil
	s.commits.Put(c)
}

// New returns a Store over the backend, and prepares the backend or checks its format. With group,
// commits that come while another is written share the next transaction, which is faster if a
// transaction ends with an fsync.
func New(b Backend, group bool) (*Store, error) {
	if err := prepare(b); err != nil {
		return nil, err
	}
	return &Store{backend: b, group: group, many: make(chan struct{}, 1), overlay: newOverlay()}, nil
}

// prepare writes the format into an empty backend, and checks that of any other.
func prepare(b Backend) error {
	var have []byte
	err := b.View(func(r Reader) error {
		have = append(have, r.Get(Meta, []byte(FormatKey))...)
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(have) > 0:
		return CheckFormat(have)
	}
	return b.Update(func(w Writer) error { return w.Put(Meta, []byte(FormatKey), []byte{format}) })
}

// CheckFormat returns an error with advice if this version cannot read data whose FormatKey has the
// value have.
func CheckFormat(have []byte) error {
	switch {
	case len(have) != 1:
		return fmt.Errorf("%w, or it is damaged: its format is %x; restore a copy of it", store.ErrFormat, have)
	case have[0] > format:
		return fmt.Errorf("%w: it has format %d, this version reads only format %d; use the newer version, or restore a copy from before",
			store.ErrFormat, have[0], format)
	case have[0] < format:
		return fmt.Errorf("%w: it has format %d, this version reads only format %d; use the older version, or begin with an empty store",
			store.ErrFormat, have[0], format)
	}
	return nil
}

// Commit implements store.Store.
func (s *Store) Commit(ctx context.Context, changes ...store.Change) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if len(changes) == 0 {
		var seq uint64
		err := s.view(ctx, func(r Reader) error {
			seq = parseNumber(r.Get(Meta, seqKey))
			return nil
		})
		return seq, err
	}
	c := s.newCommit()
	for _, change := range changes {
		var err error
		switch large := change.(type) {
		case store.ReplaceUpdate:
			change, err = c.encode(&large.Update)
		case store.CreateUpdate:
			change, err = create(&large.Update)
		default:
			change, err = store.Normalize(change)
		}
		if err != nil {
			s.free(c)
			return 0, err
		}
		c.changes = append(c.changes, change)
	}
	return s.commit(ctx, c)
}

// commit writes a commit, alone or with others, and frees it.
func (s *Store) commit(ctx context.Context, c *commit) (uint64, error) {
	s.closing.RLock()
	if s.closed {
		s.closing.RUnlock()
		s.free(c)
		return 0, store.ErrClosed
	}
	switch {
	case !s.group:
		s.write([]*commit{c})
		s.closing.RUnlock()
	case s.enqueue(c):
		go s.drain() // which unlocks closing instead of this call
	default:
		defer s.closing.RUnlock()
	}
	select {
	case <-c.done:
		defer s.free(c)
		return c.seq, c.err
	case <-ctx.Done():
		return 0, ctx.Err() // drain still has the commit
	}
}

// enqueue appends a commit to the queue, and reports whether no goroutine drains it yet.
func (s *Store) enqueue(c *commit) (start bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, c)
	if len(s.queue) == gatherMany {
		select {
		case s.many <- struct{}{}:
		default:
		}
	}
	start, s.drained = !s.drained, true
	return start
}

// drain writes the queue, group by group, until it is empty.
func (s *Store) drain() {
	defer s.closing.RUnlock()
	pause := time.NewTimer(gatherPause)
	defer pause.Stop()
	for first := true; ; first = false {
		if !first && s.average >= gatherFrom {
			s.gather(pause)
		}
		s.mu.Lock()
		n := min(len(s.queue), maxGroup)
		group := s.queue[:n:n]
		s.queue = s.queue[n:]
		if n == 0 {
			s.queue, s.drained = nil, false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		s.write(group)
		s.average += (float64(n) - s.average) / 12
	}
}

// gather waits while commits come, within bounds.
func (s *Store) gather(pause *time.Timer) {
	before := -1
	for range gatherPauses {
		s.mu.Lock()
		n := len(s.queue)
		if n < gatherMany {
			select {
			case <-s.many: // of an earlier queue
			default:
			}
		}
		s.mu.Unlock()
		if n >= gatherMany || n == before {
			return
		}
		before = n
		pause.Reset(gatherPause)
		select {
		case <-s.many:
			return
		case <-pause.C:
		}
	}
}

// write commits a group in one transaction.
func (s *Store) write(group []*commit) {
	err := s.backend.Update(func(w Writer) error {
		for _, c := range group {
			s.overlay.base = w
			s.overlay.writes.reset()
			if c.seq, c.err = apply(s.overlay, c.changes); c.err == nil {
				c.err = applyRollouts(s.overlay, c.rollouts)
			}
			if c.err != nil {
				continue
			}
			if err := s.overlay.writes.apply(w); err != nil {
				return err
			}
		}
		return nil
	})
	s.ends.Ended(err)
	for _, c := range group {
		if err != nil {
			c.seq, c.err = 0, fmt.Errorf("store: commit: %w", err)
		}
		c.done <- struct{}{}
	}
}

// Report returns what the store knows of its commits, and the number of its format.
func (s *Store) Report() store.Report {
	r := s.ends.Report()
	r.Format = format
	return r
}

func (s *Store) view(ctx context.Context, fn func(Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return store.ErrClosed
	}
	return s.backend.View(fn)
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.closing.Lock()
	defer s.closing.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.backend.Close()
}
