package kv

import (
	"encoding/binary"
	"slices"

	"github.com/otago-iot/otago/store"
)

// A journalIndex lists the lines of the journal of one update that are kept.
type journalIndex struct {
	head  uint64   // the last line of those that are kept for good
	lines []uint64 // rising
}

// A journal index is kept as unsigned varints: head, then each line as its distance from the one
// before.
func (j *journalIndex) append(b []byte) []byte {
	b = binary.AppendUvarint(b, j.head)
	last := uint64(0)
	for _, line := range j.lines {
		b = binary.AppendUvarint(b, line-last)
		last = line
	}
	return b
}

// parse sets j to what append appended. Of a damaged index it takes what it can read.
func (j *journalIndex) parse(data []byte) {
	head, size := binary.Uvarint(data)
	j.head, j.lines = head, j.lines[:0]
	for last := uint64(0); size > 0; {
		data = data[size:]
		var distance uint64
		if distance, size = binary.Uvarint(data); size > 0 {
			last += distance
			j.lines = append(j.lines, last)
		}
	}
}

func appendEvents(o *overlay, lines []store.Event) error {
	seq := parseNumber(o.get(Meta, seqKey))
	for len(lines) > 0 {
		n := 1
		for n < len(lines) && lines[n].Update == lines[0].Update {
			n++
		}
		if err := appendJournal(o, lines[:n], seq); err != nil {
			return err
		}
		lines, seq = lines[n:], seq+uint64(n)
	}
	o.put(Meta, seqKey, number(seq))
	return nil
}

// appendJournal appends lines of one update, whose numbers follow seq. Beyond its bounds it removes
// the oldest lines after the head.
func appendJournal(o *overlay, lines []store.Event, seq uint64) error {
	id := []byte(lines[0].Update)
	if !o.has(updates, id) {
		return store.ErrNotFound
	}
	j := &o.journal
	j.parse(o.get(journal, id))
	for i := range lines {
		seq++
		if err := eventKind.put(o, number(seq), &lines[i]); err != nil {
			return err
		}
		j.lines = append(j.lines, seq)
		if len(j.lines) <= store.JournalHead {
			j.head = seq
		}
		if len(j.lines) > store.JournalHead+store.JournalTail {
			at, found := slices.BinarySearch(j.lines, j.head)
			if found {
				at++
			}
			o.delete(events, number(j.lines[at]))
			j.lines = slices.Delete(j.lines, at, at+1)
		}
	}
	o.putJournal(id, j)
	return nil
}

func (o *overlay) putJournal(id []byte, j *journalIndex) {
	o.buffer = j.append(o.buffer[:0])
	o.put(journal, id, slices.Clone(o.buffer))
}

// deleteJournal removes the journal of an update, and reports whether it had lines.
func deleteJournal(o *overlay, id []byte) bool {
	var j journalIndex
	j.parse(o.get(journal, id))
	for _, line := range j.lines {
		o.delete(events, number(line))
	}
	o.delete(journal, id)
	return len(j.lines) > 0
}

// removeLine removes a line from the journal that lists it, and reports whether there was one.
func removeLine(o *overlay, seq uint64) bool {
	var j journalIndex
	for id, data := range o.Ascend(journal, nil) {
		j.parse(data)
		if at, found := slices.BinarySearch(j.lines, seq); found {
			j.lines = slices.Delete(j.lines, at, at+1)
			o.putJournal(slices.Clone(id), &j)
			return true
		}
	}
	return false
}
