package kv

import (
	"encoding/binary"
	"errors"
	"sync"
)

// Sizes of the log, in bytes.
const (
	// maxLog is how long the log may be before its writes go into the tables. A longer log saves
	// writes of pages, and takes memory and time to read after a crash.
	maxLog = 4 << 20
	// logPiece is the size of an entry: four of them fill a page of 4 KiB with their keys.
	logPiece = 996
)

// A Clearer is the [Writer] that [Logged] needs: one that keeps slices only until its transaction
// ends, and that can remove all entries of a table.
type Clearer interface {
	Writer
	Clear(t Table) error
}

// A logged back end appends writes to a log, which is a table of the back end under it, and keeps
// them in memory. A transaction so changes few pages, however many places its keys have. When the
// log is long, its last writes go into the tables, in order, and it starts over.
//
// After a crash the log is read again: every transaction that was committed is in it, or in the
// tables.
type logged struct {
	base Backend
	max  int // of size

	writing sync.Mutex // held by Update and Close
	staged  writeSet
	entry   []byte
	size    int    // of the log
	next    uint64 // key of the next entry

	mu      sync.RWMutex // guards the rest; Update changes it under writing as well
	pending writeSet     // the writes in the log
	applied uint64       // how often the log went into the tables, as pending has it
	stale   bool         // pending may lack a write of the log
}

// Logged returns a back end that writes to b by way of a log. The transactions of b must be
// Clearers. Close applies the log; who does not close it loses nothing.
func Logged(b Backend) (Backend, error) {
	if err := prepare(b); err != nil { // the format is never in the log
		return nil, err
	}
	l := &logged{base: b, max: maxLog, stale: true}
	return l, l.fresh()
}

// fresh reads the log if pending may lack a write. A transaction that failed may be in the log
// nevertheless.
func (l *logged) fresh() error {
	l.mu.RLock()
	stale := l.stale
	l.mu.RUnlock()
	if !stale {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending, l.size, l.next = writeSet{}, 0, 0
	var stream []byte
	err := l.base.View(func(r Reader) error {
		stream, l.size, l.next, l.applied = nil, 0, 0, appliedIn(r)
		for key, piece := range r.Ascend(log, nil) {
			stream = append(stream, piece...)
			l.size += len(piece)
			l.next = parseNumber(key) + 1
		}
		return nil
	})
	if err == nil {
		err = parseLog(stream, &l.pending)
	}
	l.stale = err != nil
	return err
}

func appliedIn(r Reader) uint64 { return parseNumber(r.Get(Meta, appliedKey)) }

// errAhead means that the tables have a transaction that pending does not have yet.
var errAhead = errors.New("store: the log was applied")

func (l *logged) View(fn func(Reader) error) error {
	for {
		l.mu.RLock()
		seen := l.applied
		l.mu.RUnlock()
		err := l.view(fn)
		if err != errAhead { //nolint:errorlint // it comes from view itself
			return err
		}
		l.writing.Lock() // until the Update that applied the log has ended
		l.mu.Lock()
		l.stale = l.stale || l.applied == seen // else that Update has left pending as it must be
		l.mu.Unlock()
		l.writing.Unlock()
	}
}

func (l *logged) view(fn func(Reader) error) error {
	if err := l.fresh(); err != nil {
		return err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.base.View(func(r Reader) error {
		if appliedIn(r) != l.applied {
			return errAhead
		}
		return fn(&layer{r, &l.pending})
	})
}

func (l *logged) Update(fn func(Writer) error) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.fresh(); err != nil {
		return err
	}
	applied := false
	err := l.base.Update(func(w Writer) error {
		l.staged.reset()
		if err := fn(&layer{&layer{w, &l.pending}, &l.staged}); err != nil {
			return err
		}
		l.entry = appendLog(l.entry[:0], &l.staged)
		if applied = l.size+len(l.entry) > l.max; applied {
			return l.apply(w.(Clearer))
		}
		next := l.next
		for rest := l.entry; len(rest) > 0; next++ {
			n := min(len(rest), logPiece)
			if err := w.Put(log, number(next), rest[:n:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		return nil
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.stale = true
	case applied:
		l.pending, l.size = writeSet{}, 0
		l.applied++
	default:
		l.pending.merge(&l.staged)
		l.size += len(l.entry)
		l.next += uint64((len(l.entry) + logPiece - 1) / logPiece)
	}
	return err
}

// apply writes what is in the log, and what is staged, into the tables.
func (l *logged) apply(w Clearer) error {
	if err := l.pending.apply(w); err != nil {
		return err
	}
	if err := l.staged.apply(w); err != nil {
		return err
	}
	if err := w.Put(Meta, appliedKey, number(l.applied+1)); err != nil {
		return err
	}
	return w.Clear(log)
}

// Close applies the log, so that the next start has none to read. If that fails, the next start
// reads it.
func (l *logged) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.fresh() == nil && l.size > 0 {
		_ = l.base.Update(func(w Writer) error {
			l.staged.reset()
			return l.apply(w.(Clearer))
		})
	}
	return l.base.Close()
}

// appendLog appends writes to a log: of each the table, the length of the key, the length of the
// value plus one, or 0 for a deletion, and then both.
func appendLog(b []byte, writes *writeSet) []byte {
	for t := range writes {
		for key, value := range writes[t].Ascend(nil) {
			b = append(b, byte(t))
			b = binary.AppendUvarint(b, uint64(len(key)))
			if value == nil {
				b = append(binary.AppendUvarint(b, 0), key...)
				continue
			}
			b = binary.AppendUvarint(b, uint64(len(value))+1)
			b = append(append(b, key...), value...)
		}
	}
	return b
}

var errLog = errors.New("store: the log of the latest commits is damaged")

// parseLog adds the writes of a log. Their slices are parts of it.
func parseLog(data []byte, writes *writeSet) error {
	length := func() (uint64, bool) {
		n, size := binary.Uvarint(data)
		if size <= 0 {
			return 0, false
		}
		data = data[size:]
		return n, true
	}
	for len(data) > 0 {
		t := Table(data[0])
		data = data[1:]
		n, ok := length()
		size, ok2 := length()
		if !ok || !ok2 || t == log || t >= Tables || n > uint64(len(data)) || size > uint64(len(data))+1-n {
			return errLog
		}
		key, value := data[:n:n], []byte(nil)
		if data = data[n:]; size > 0 {
			value = data[: size-1 : size-1]
			data = data[size-1:]
		}
		writes[t].Put(key, value)
	}
	return nil
}
