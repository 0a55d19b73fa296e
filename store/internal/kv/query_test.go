package kv

import (
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// A counting back end counts what queries read: entries that they walk over, and values that they
// get.
type counting struct {
	Backend
	read int
}

func (c *counting) View(fn func(Reader) error) error {
	return c.Backend.View(func(r Reader) error { return fn(countingTx{r, c}) })
}

type countingTx struct {
	Reader
	c *counting
}

func (t countingTx) Get(name Table, key []byte) []byte {
	t.c.read++
	return t.Reader.Get(name, key)
}

func (t countingTx) Ascend(name Table, from []byte) iter.Seq2[[]byte, []byte] {
	return t.count(t.Reader.Ascend(name, from))
}

func (t countingTx) Descend(name Table, before []byte) iter.Seq2[[]byte, []byte] {
	return t.count(t.Reader.Descend(name, before))
}

func (t countingTx) count(entries iter.Seq2[[]byte, []byte]) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for key, value := range entries {
			t.c.read++
			if !yield(key, value) {
				return
			}
		}
	}
}

// TestPageReadsLittle reads one page of each kind of list over records of which few or none are
// selected.
func TestPageReadsLittle(t *testing.T) {
	c := &counting{Backend: &shaky{}}
	s, err := New(c, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const n = 20_000
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	changes := []store.Change{
		store.CreateImage{Image: store.Image{ID: "i1", Name: "a", Version: "1"}},
		store.CreateImage{Image: store.Image{ID: "i2", Name: "a", Version: "2"}},
	}
	for i := range n {
		m := fsm.NewUpdate(fsm.Plan{Target: "1"}, now)
		m.Phase, m.Outcome = fsm.PhaseEnded, []fsm.Outcome{fsm.OutcomeSucceeded, fsm.OutcomeFailed}[i%2]
		changes = append(changes, store.CreateUpdate{Update: store.Update{
			ID: fmt.Sprintf("%06d", i), Endpoint: fmt.Sprint("ep", i%1000), Image: "i1", Machine: m, Created: now, Changed: now,
			Labels: map[string]string{"n": fmt.Sprint(i % 2), "all": ""},
		}}, store.PutRegistration{Endpoint: fmt.Sprint("ep", i), Registration: store.RegistrationRecord{Ended: now}},
			store.PutFirmware{Endpoint: fmt.Sprint("ep", i), Firmware: store.Firmware{Version: fmt.Sprint("1.", i%100)}},
			store.PutFacts{Endpoint: fmt.Sprint("ep", i), Facts: store.Facts{Model: []string{"rare", "S1"}[min(i, 1)], Manufacturer: "Acme"}},
			store.PutLabels{Endpoint: fmt.Sprint("ep", i), Labels: map[string]string{"site": fmt.Sprint(i % 1000), "all": ""}})
	}
	if _, err := s.Commit(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
	odd := map[string]string{"n": "1", "all": ""}
	for _, q := range []store.UpdateQuery{
		{}, {Oldest: true}, {After: "010000"}, {Active: true}, {Image: "i2"}, {Endpoint: "ep7"}, {Outcome: fsm.OutcomeFailed},
		{Outcome: fsm.OutcomeTimedOut}, {Outcome: fsm.OutcomeSucceeded, Image: "i2"}, {Labels: odd}, {Labels: map[string]string{"n": "x"}},
		{Outcome: fsm.OutcomeSucceeded, Labels: odd}, {Outcome: fsm.OutcomeFailed, Image: "i1", Labels: odd, Oldest: true},
		{Filter: func(store.Update) bool { return false }}, {Key: "none"},
		{Outcome: fsm.OutcomeFailed, Filter: func(u store.Update) bool { return u.ID == "000001" }},
	} {
		q.Limit = 100
		c.read = 0
		for _, err := range s.Updates(t.Context(), q) {
			if err != nil && !errors.Is(err, store.ErrShort) {
				t.Fatal(err)
			}
		}
		if c.read > 10_000 {
			t.Errorf("Updates(%+v) reads %d of %d", q, c.read, n)
		}
	}
	var versions []string
	for i := range 60 {
		versions = append(versions, fmt.Sprint("1.", i))
	}
	for _, q := range []store.DeviceQuery{
		{}, {Registered: true}, {Filter: func(store.Device) bool { return false }},
		{Labels: map[string]string{"all": ""}}, {Labels: map[string]string{"all": ""}, Model: "rare"}, {Manufacturer: "Acme", Hardware: "x"},
		{Versions: versions, Registered: true}, {Versions: append(versions, versions...), Model: "S1"}, {Versions: append(versions, "", "2"), Registered: true},
	} {
		q.Limit = 100
		c.read = 0
		for _, err := range s.Devices(t.Context(), q) {
			if err != nil && !errors.Is(err, store.ErrShort) {
				t.Fatal(err)
			}
		}
		if c.read > 10_000 {
			t.Errorf("Devices(%+v) reads %d of %d", q, c.read, n)
		}
	}
	// A query that selects few devices reads few, whatever else it asks for, and needs no page.
	for _, q := range []store.DeviceQuery{
		{Model: "rare"}, {Model: "rare", Manufacturer: "Acme", Labels: map[string]string{"all": ""}},
		{Labels: map[string]string{"all": "", "site": "7"}, Manufacturer: "Acme", Registered: true},
		{Versions: []string{"1.7", "0.1"}, Labels: map[string]string{"site": "7"}}, {Versions: []string{"2"}},
	} {
		c.read = 0
		for _, err := range s.Devices(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if c.read > 200 {
			t.Errorf("Devices(%+v) reads %d of %d", q, c.read, n)
		}
	}
	c.read = 0
	if counts, err := s.DeviceCounts(t.Context()); err != nil || counts.Devices != n || len(counts.Versions) != 100 || c.read > 200 {
		t.Errorf("DeviceCounts = %v, %v, after %d reads", counts, err, c.read)
	}
	c.read = 0
	if counts, err := s.Counts(t.Context(), ""); err != nil || len(counts) != 2 || counts[0].Updates != n/2 || c.read > 10 {
		t.Errorf("Counts = %v, %v, after %d reads", counts, err, c.read)
	}
}
