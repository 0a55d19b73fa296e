package kv

import (
	"context"
	"fmt"
	"sync"

	"github.com/otago-iot/otago/store"
)

// maxGroup limits how many commits share a transaction.
const maxGroup = 1024

// A Store is a store.Store over a Backend.
type Store struct {
	backend Backend
	group   bool

	closing sync.RWMutex // read-locked while a call runs
	closed  bool

	mu      sync.Mutex // guards queue and draining
	queue   []*commit
	drained bool // a goroutine drains the queue

	overlay *overlay // for the commit that is applied in a transaction
}

type commit struct {
	changes []store.Change
	seq     uint64
	err     error
	done    chan struct{}
}

// New returns a Store over the backend, and prepares the backend or checks its format. With group,
// commits that come while another is written share the next transaction, which is faster if a
// transaction ends with an fsync.
func New(b Backend, group bool) (*Store, error) {
	if err := prepare(b); err != nil {
		return nil, err
	}
	return &Store{backend: b, group: group, overlay: newOverlay()}, nil
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
	c := &commit{changes: make([]store.Change, len(changes)), done: make(chan struct{})}
	for i, change := range changes {
		var err error
		if c.changes[i], err = store.Normalize(change); err != nil {
			return 0, err
		}
	}
	if len(changes) == 0 {
		err := s.view(ctx, func(r Reader) error {
			c.seq = parseNumber(r.Get(Meta, seqKey))
			return nil
		})
		return c.seq, err
	}
	s.closing.RLock()
	if s.closed {
		s.closing.RUnlock()
		return 0, store.ErrClosed
	}
	if !s.group {
		defer s.closing.RUnlock()
		s.write([]*commit{c})
		return c.seq, c.err
	}
	s.mu.Lock()
	s.queue = append(s.queue, c)
	start := !s.drained
	s.drained = true
	s.mu.Unlock()
	if start {
		go s.drain() // which unlocks closing instead of this call
	} else {
		defer s.closing.RUnlock()
	}
	select {
	case <-c.done:
		return c.seq, c.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// drain writes the queue, group by group, until it is empty.
func (s *Store) drain() {
	defer s.closing.RUnlock()
	for {
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
	}
}

// write commits a group in one transaction.
func (s *Store) write(group []*commit) {
	err := s.backend.Update(func(w Writer) error {
		for _, c := range group {
			s.overlay.base = w
			s.overlay.writes.reset()
			if c.seq, c.err = apply(s.overlay, c.changes); c.err != nil {
				continue
			}
			if err := s.overlay.writes.apply(w); err != nil {
				return err
			}
		}
		return nil
	})
	for _, c := range group {
		if err != nil {
			c.seq, c.err = 0, fmt.Errorf("store: commit: %w", err)
		}
		close(c.done)
	}
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
