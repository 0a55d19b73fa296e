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
	"github.com/otago-iot/otago/store/internal/group"
)

// A Store is a store.Store over a Backend.
type Store struct {
	backend Backend
	grouped bool
	queue   *group.Queue[*commit]

	overlay *overlay  // for the commit that is applied in a transaction
	commits sync.Pool // of *commit; its own, as a channel made in a bubble of synctest stays there
	ends    store.Commits
}

type commit struct {
	group.Commit
	changes  []store.Change
	rollouts []store.RolloutChange
	update   store.Update // for encode
	seq      uint64
	err      error
}

// newCommit returns an empty commit.
func (s *Store) newCommit() *commit {
	if c, ok := s.commits.Get().(*commit); ok {
		return c
	}
	return new(commit)
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

// New returns a Store over the backend, and prepares the backend or checks its format. If grouped,
// commits that come while another is written share the next transaction, which is faster if a
// transaction ends with an fsync.
func New(b Backend, grouped bool) (*Store, error) {
	if err := prepare(b); err != nil {
		return nil, err
	}
	s := &Store{backend: b, grouped: grouped, overlay: newOverlay()}
	s.queue = group.New(s.write)
	return s, nil
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
	if s.grouped {
		if err := s.queue.Do(ctx, c); err != nil {
			return 0, err
		}
	} else {
		if err := s.queue.Enter(ctx); err != nil {
			return 0, err
		}
		defer s.queue.Leave()
		s.write([]*commit{c})
	}
	defer s.free(c)
	return c.seq, c.err
}

// write commits a group in one transaction.
func (s *Store) write(commits []*commit) {
	err := s.backend.Update(func(w Writer) error {
		for _, c := range commits {
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
	for _, c := range commits {
		if err != nil {
			c.seq, c.err = 0, fmt.Errorf("store: commit: %w", err)
		}
	}
}

// Report returns what the store knows of its commits, and the number of its format.
func (s *Store) Report() store.Report {
	r := s.ends.Report()
	r.Format = format
	return r
}

func (s *Store) view(ctx context.Context, fn func(Reader) error) error {
	if err := s.queue.Enter(ctx); err != nil {
		return err
	}
	defer s.queue.Leave()
	return s.backend.View(fn)
}

// Close implements store.Store.
func (s *Store) Close() error { return s.queue.Close(s.backend.Close) }
