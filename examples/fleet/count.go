package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// countingStore counts commits.
type countingStore struct {
	store.Store
	commits, changes, failed atomic.Uint64
	registrations            atomic.Uint64 // stored
	kinds                    tally[commitKind]
	disk                     *slowDisk // nil if there is none
	busy                     stopwatch
}

// stopwatch measures how long something is done, by one or by several.
type stopwatch struct {
	mu    sync.Mutex
	n     int // that do it now
	since time.Time
	sum   time.Duration
}

// add records that n more do it, or that -n have ended, and returns how long it was done before.
func (s *stopwatch) add(n int) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.n > 0 {
		s.sum += now.Sub(s.since)
	}
	s.n, s.since = s.n+n, now
	return s.sum
}

// registering is the kind of a commit of nothing but registrations.
const registering = "registration"

// Commit implements store.Store.
func (s *countingStore) Commit(ctx context.Context, changes ...store.Change) (uint64, error) {
	var seq uint64
	err := s.commit(ctx, kindOfCommit(changes), len(changes), func() (err error) {
		seq, err = s.Store.Commit(ctx, changes...)
		return err
	})
	if err != nil {
		return seq, err
	}
	for _, c := range changes {
		if _, ok := c.(store.PutRegistration); ok {
			s.registrations.Add(1)
		}
	}
	return seq, nil
}

// commit counts and times a commit.
func (s *countingStore) commit(ctx context.Context, kind commitKind, changes int, do func() error) error {
	s.commits.Add(1)
	s.changes.Add(uint64(changes))
	s.kinds.add(kind)
	s.busy.add(1)
	defer s.busy.add(-1)
	err := do()
	if err == nil && s.disk != nil {
		err = s.disk.sync(ctx)
	}
	if err != nil {
		s.failed.Add(1)
	}
	return err
}

// countingRollouts counts the commits of rollouts together with the others.
type countingRollouts struct {
	store.Rollouts
	db *countingStore
}

// CommitRollouts implements store.Rollouts.
func (r countingRollouts) CommitRollouts(ctx context.Context, changes ...store.RolloutChange) error {
	return r.db.commit(ctx, kindOfRolloutCommit(changes), len(changes), func() error {
		return r.Rollouts.CommitRollouts(ctx, changes...)
	})
}

// slowDisk lets commits wait for a transaction that takes its time. Commits that come during one
// share the next.
type slowDisk struct{ waiting chan chan struct{} }

func newSlowDisk(ctx context.Context, d time.Duration) *slowDisk {
	disk := &slowDisk{waiting: make(chan chan struct{})}
	go func() {
		var now, next []chan struct{} // the commits of the transaction that is under way, and of the next one
		var end <-chan time.Time      // of the transaction
		for {
			select {
			case <-ctx.Done():
				return
			case c := <-disk.waiting:
				next = append(next, c)
			case <-end:
				for _, c := range now {
					close(c)
				}
				now, end = nil, nil
			}
			if end == nil && len(next) > 0 {
				now, next, end = next, nil, time.After(d)
			}
		}
	}()
	return disk
}

// sync waits for the end of a transaction that begins after the call.
func (d *slowDisk) sync(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case d.waiting <- done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// commitKind says what a commit changes.
type commitKind struct {
	has   [len(changeNames)]bool // by changeNames
	phase fsm.Phase              // of the first step
}

// changeNames names kinds of changes.
var changeNames = [...]string{"create", "step", "end", "journal", registering, "firmware", "holds", "other", "rollout", "members", "journal of the rollout"}

func kindOfCommit(changes []store.Change) (k commitKind) {
	for _, c := range changes {
		i := 7
		switch c := c.(type) {
		case store.CreateUpdate:
			i = 0
		case store.ReplaceUpdate:
			if i = 2; c.Update.Active() {
				i = 1
				k.phase = cmp.Or(k.phase, c.Update.Machine.Phase)
			}
		case store.AppendEvents:
			i = 3
		case store.PutRegistration:
			i = 4
		case store.PutFirmware:
			i = 5
		case store.PutHolds:
			i = 6
		}
		k.has[i] = true
	}
	return k
}

func kindOfRolloutCommit(changes []store.RolloutChange) (k commitKind) {
	for _, c := range changes {
		switch c.(type) {
		case store.PutMembers:
			k.has[9] = true
		case store.AppendRolloutEvents:
			k.has[10] = true
		default:
			k.has[8] = true
		}
	}
	return k
}

// String names the kind: "step (executing)+journal".
func (k commitKind) String() string {
	var names []string
	for i, name := range changeNames {
		if i == 1 {
			name += " (" + string(k.phase) + ")"
		}
		if k.has[i] {
			names = append(names, name)
		}
	}
	return strings.Join(names, "+")
}

// databaseUse returns how many bytes of a bbolt file are in use or were: bbolt makes the file
// longer in steps of 16 MiB, and this rises page by page. It returns 0 if it cannot tell.
func databaseUse(name string) int64 {
	f, err := os.Open(name)
	if err != nil {
		return 0
	}
	defer f.Close()
	var use int64
	var newest uint64
	page := int64(os.Getpagesize())
	for i := range int64(2) { // the two meta pages, which transactions write in turn
		var b [80]byte
		if _, err := f.ReadAt(b[:], i*page); err != nil || binary.NativeEndian.Uint32(b[16:]) != 0xED0CDAED {
			return 0
		}
		size, pages, transaction := binary.NativeEndian.Uint32(b[24:]), binary.NativeEndian.Uint64(b[56:]), binary.NativeEndian.Uint64(b[64:])
		if transaction >= newest {
			newest, use = transaction, int64(pages)*int64(size)
		}
	}
	return use
}

// countingHandler counts requests.
func countingHandler(next http.Handler, n *atomic.Uint64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		next.ServeHTTP(w, r)
	})
}

// actionCount counts the requests of one kind that a manager made to devices.
type actionCount struct {
	Done, Failed int
}

// actions counts the requests that a manager made to devices, by kind.
type actions struct {
	mu     sync.Mutex
	counts map[string]actionCount
}

// end implements firmware.Hooks.ActionEnd.
func (a *actions) end(_ context.Context, _ firmware.Update, kind firmware.ActionKind, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.counts[string(kind)]
	c.Done++
	if err != nil {
		c.Failed++
	}
	a.counts[string(kind)] = c
}

// take returns the counts, and resets them.
func (a *actions) take() map[string]actionCount {
	a.mu.Lock()
	defer a.mu.Unlock()
	counts := a.counts
	a.counts = map[string]actionCount{}
	return counts
}
