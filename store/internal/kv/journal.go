package kv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/record"
	"github.com/otago-iot/otago/store"
)

// maxRun is how many lines are in one record at most, since a reader decodes all of them.
const maxRun = 16

// A run is a record of the journal: lines of one update with numbers one after the other, which
// came in one commit. Its key is the number of the first.
type run struct {
	Update   string    `record:"1,ulid"`
	Endpoint string    `record:"2"`
	Time     time.Time `record:"3"` // of the lines without one
	Lines    []line    `record:"4"`
}

type line struct {
	Time    time.Time   `record:"1"`
	Name    eventName   `record:"2"`
	Detail  eventDetail `record:"3"`
	Phase   fsm.Phase   `record:"4"`
	State   fsm.State   `record:"5"`
	Result  fsm.Result  `record:"6"`
	Outcome fsm.Outcome `record:"7"`
}

// An eventName is the name of a line. The common ones are kept by number.
type eventName string

// An eventDetail is the detail of a line. Those of most updates are kept by number: as text they
// were a third of the journal. A text that no longer occurs keeps its number.
type eventDetail string

func init() {
	record.Common[eventName]("created", fsm.EventStarted, fsm.EventRead, fsm.EventWriteURI, fsm.EventURIAccepted,
		fsm.EventDownloadRequested, fsm.EventTransferStarted, fsm.EventExecute, fsm.EventExecuteAccepted, fsm.EventRestarting,
		fsm.EventRegistered, eventName(fsm.EventSucceeded), fsm.EventPush, fsm.EventPushAccepted, fsm.EventReset, fsm.EventResumed,
		fsm.EventReadFailed, fsm.EventPolling, fsm.EventRetry, eventName(fsm.EventFailed), eventName(fsm.EventRolledBack), eventName(fsm.EventTimedOut),
		eventName(fsm.EventCancelled), fsm.EventPackageFetched)
	record.Common[eventDetail]("the device accepted the Package URI", "the device receives the package", "the device holds the package",
		"a request for the package came by http", "a request for the package came by https", "a request for the package came by coap",
		"a request for the package came by coaps", "state idle, result default", "state downloading, result default",
		"state downloaded, result default", "state updating, result default", "state idle, result success", "the device accepted Execute",
		"the device registered after the server sent Execute", "the device registered after it began to install", "the device registered",
		"the device runs the target version", "the device accepted all bytes")
}

var (
	runCodec = record.Of[run]()
	runKind  = kind[run]{
		kind: store.KindEvent, table: events,
		append: runCodec.Append,
		parse: func(content []byte, r *run) error {
			err := runCodec.Decode(content, r)
			if err == nil && (r.Update == "" || len(r.Lines) == 0) {
				err = errors.New("it has no lines")
			}
			return err
		},
		key:  func(*run, []byte) {},
		name: func(key []byte) string { return strconv.FormatUint(parseNumber(key), 10) },
	}
)

// set makes r a run of events of one update.
func (r *run) set(lines []store.Event) {
	r.Update, r.Endpoint, r.Time, r.Lines = lines[0].Update, lines[0].Endpoint, lines[0].Time, r.Lines[:0]
	for _, e := range lines {
		l := line{
			Name: eventName(e.Name), Detail: eventDetail(e.Detail), Phase: e.Phase, State: e.State, Result: e.Result, Outcome: e.Outcome,
		}
		if !e.Time.Equal(r.Time) {
			l.Time = e.Time
		}
		r.Lines = append(r.Lines, l)
	}
}

// event returns a line of a run whose first line has the number first.
func (r *run) event(first uint64, at int) store.Event {
	l := r.Lines[at]
	e := store.Event{
		Seq: first + uint64(at), Update: r.Update, Endpoint: r.Endpoint, Time: l.Time, Name: string(l.Name), Detail: string(l.Detail),
		Phase: l.Phase, State: l.State, Result: l.Result, Outcome: l.Outcome,
	}
	if e.Time.IsZero() {
		e.Time = r.Time
	}
	return e
}

// A journalIndex lists the runs of the journal of one update.
type journalIndex struct {
	head uint64 // the last line of those that are kept for good; a run begins after it
	runs []extent
}

type extent struct{ first, count uint64 }

func (e extent) end() uint64 { return e.first + e.count }

// append appends unsigned varints: the head, and of each run the distance from the end of the one
// before, and the number of lines.
func (j *journalIndex) append(b []byte) []byte {
	b = binary.AppendUvarint(b, j.head)
	end := uint64(0)
	for _, e := range j.runs {
		b = binary.AppendUvarint(binary.AppendUvarint(b, e.first-end), e.count)
		end = e.end()
	}
	return b
}

// parse sets j to what append appended. Of a damaged index it takes what it can read.
func (j *journalIndex) parse(data []byte) {
	head, size := binary.Uvarint(data)
	j.head, j.runs = head, j.runs[:0]
	for end := uint64(0); size > 0; {
		data = data[size:]
		distance, width := binary.Uvarint(data)
		if width <= 0 {
			return
		}
		count, countSize := binary.Uvarint(data[width:])
		e := extent{end + distance, count}
		if size = width + countSize; countSize <= 0 || e.first < end || e.count == 0 || e.end() < e.first {
			return
		}
		j.runs, end = append(j.runs, e), e.end()
	}
}

func (j *journalIndex) lines() (n uint64) {
	for _, e := range j.runs {
		n += e.count
	}
	return n
}

func appendEvents(o *overlay, lines []store.Event) error {
	seq := parseNumber(o.get(Meta, seqKey))
	for len(lines) > 0 {
		n := 1
		for n < len(lines) && lines[n].Update == lines[0].Update {
			n++
		}
		if err := appendJournal(o, lines[:n], seq+1); err != nil {
			return err
		}
		lines, seq = lines[n:], seq+uint64(n)
	}
	o.put(Meta, seqKey, number(seq))
	return nil
}

// appendJournal appends lines of one update, of which the first has the number next.
func appendJournal(o *overlay, lines []store.Event, next uint64) error {
	id := []byte(lines[0].Update)
	if !o.has(updates, id) {
		return store.ErrNotFound
	}
	j := &o.journal
	j.parse(o.get(journal, id))
	for kept := j.lines(); len(lines) > 0; {
		n := 1
		for n < min(len(lines), maxRun) && lines[n].Endpoint == lines[0].Endpoint && lines[n].Time.IsZero() == lines[0].Time.IsZero() {
			n++
		}
		if kept < store.JournalHead {
			n = min(n, int(store.JournalHead-kept))
			j.head = next + uint64(n) - 1
		}
		o.run.set(lines[:n])
		if err := runKind.put(o, number(next), &o.run); err != nil {
			return err
		}
		j.runs = append(j.runs, extent{next, uint64(n)})
		lines, next, kept = lines[n:], next+uint64(n), kept+uint64(n)
	}
	if err := j.trim(o); err != nil {
		return err
	}
	o.putJournal(id, j)
	return nil
}

// trim removes the oldest lines after the head if there are too many.
func (j *journalIndex) trim(o *overlay) error {
	lines := j.lines()
	if lines <= store.JournalHead+store.JournalTail {
		return nil
	}
	excess := lines - store.JournalHead - store.JournalTail
	at := slices.IndexFunc(j.runs, func(e extent) bool { return e.first > j.head })
	for excess > 0 && at >= 0 && at < len(j.runs) {
		e := j.runs[at]
		key := number(e.first)
		data := o.get(events, key)
		o.delete(events, key)
		o.dropped(e.first + min(e.count, excess) - 1)
		if e.count <= excess {
			j.runs = slices.Delete(j.runs, at, at+1)
			excess -= e.count
			continue
		}
		j.runs[at] = extent{e.first + excess, e.count - excess}
		r, err := runKind.decode(key, data)
		if err == nil && excess >= uint64(len(r.Lines)) {
			err = runKind.damaged(key, errors.New("it lacks lines"))
		}
		if err != nil {
			return nil // the index still lists the rest, as damaged
		}
		if l := &r.Lines[excess]; l.Time.IsZero() {
			l.Time = r.Time
		}
		r.Lines = r.Lines[excess:]
		return runKind.put(o, number(e.first+excess), &r)
	}
	return nil
}

// dropped remembers the highest number of a line that was removed.
func (o *overlay) dropped(seq uint64) {
	if seq > parseNumber(o.get(Meta, deletedKey)) {
		o.put(Meta, deletedKey, number(seq))
	}
}

func (o *overlay) putJournal(id []byte, j *journalIndex) {
	o.buffer = j.append(o.buffer[:0])
	o.put(journal, id, bytes.Clone(o.buffer))
}

// deleteJournal removes the journal of an update, and reports whether it had lines.
func deleteJournal(o *overlay, id []byte) bool {
	var j journalIndex
	j.parse(o.get(journal, id))
	for _, e := range j.runs {
		o.delete(events, number(e.first))
		o.dropped(e.end() - 1)
	}
	o.delete(journal, id)
	return len(j.runs) > 0
}

// removeEvent removes a run of which seq is the first line, if it is damaged, and its place in the
// index of its update.
func removeEvent(o *overlay, seq uint64) (bool, error) {
	for key, data := range o.Descend(events, number(seq+1)) {
		if r, err := runKind.decode(key, data); err == nil && parseNumber(key)+uint64(len(r.Lines)) > seq {
			return false, store.ErrNotDamaged
		}
		break
	}
	found := o.has(events, number(seq))
	if found {
		o.delete(events, number(seq))
		o.dropped(seq)
	}
	var j journalIndex
	for id, data := range o.Ascend(journal, nil) {
		j.parse(data)
		if at := slices.IndexFunc(j.runs, func(e extent) bool { return e.first == seq }); at >= 0 {
			o.dropped(j.runs[at].end() - 1)
			j.runs = slices.Delete(j.runs, at, at+1)
			o.putJournal(bytes.Clone(id), &j)
			return true, nil
		}
	}
	return found, nil
}
