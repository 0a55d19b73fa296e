// Package memory keeps a store in memory, for tests and trials. All rules hold; nothing survives
// the process.
//
//	db := memory.New()
//	defer db.Close()
package memory

import (
	"context"
	"iter"
	"sync"

	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/internal/kv"
)

// A Store is a [store.Store] and a [store.Rollouts] in memory.
type Store struct {
	store.Store
	store.Rollouts
	kv *kv.Store
}

// Report implements store.Reporter.
func (s *Store) Report(context.Context) store.Report {
	r := s.kv.Report()
	r.Kind, r.Format = "memory", 0
	return r
}

// New returns an empty store.
func New() *Store {
	s, err := kv.New(&backend{}, false)
	if err != nil {
		panic(err) // a backend in memory cannot fail, and an empty one has no format
	}
	return &Store{s, s, s}
}

// A backend is a set of tables under one lock. Package kv writes a commit only after all its
// changes have succeeded, so there is nothing to undo.
type backend struct {
	mu     sync.RWMutex
	tables [kv.Tables]kv.Map
}

func (b *backend) View(fn func(kv.Reader) error) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return fn(tx{b})
}

func (b *backend) Update(fn func(kv.Writer) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return fn(tx{b})
}

func (b *backend) Close() error { return nil }

type tx struct{ b *backend }

func (t tx) Get(name kv.Table, key []byte) []byte {
	value, _ := t.b.tables[name].Get(key)
	return value
}

func (t tx) Ascend(name kv.Table, from []byte) iter.Seq2[[]byte, []byte] {
	return t.b.tables[name].Ascend(from)
}

func (t tx) Descend(name kv.Table, before []byte) iter.Seq2[[]byte, []byte] {
	return t.b.tables[name].Descend(before)
}

func (t tx) Put(name kv.Table, key, value []byte) error {
	t.b.tables[name].Put(key, value)
	return nil
}

func (t tx) Delete(name kv.Table, key []byte) error {
	t.b.tables[name].Delete(key)
	return nil
}
