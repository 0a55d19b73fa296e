package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// endedWith returns the update with an outcome.
func endedWith(u store.Update, outcome fsm.Outcome) store.Update {
	u = ended(u)
	u.Machine.Outcome = outcome
	return u
}

// testOutcomes selects updates by outcome, alone and together with other conditions.
func testOutcomes(t *testing.T, db store.Store) {
	seed(t, db)
	commit(t, db, store.CreateImage{Image: newImage("i2", "2")})
	outcomes := []fsm.Outcome{
		fsm.OutcomeSucceeded, fsm.OutcomeFailed, fsm.OutcomeSucceeded, fsm.OutcomeFailed, fsm.OutcomeTimedOut, fsm.OutcomeNone,
	}
	for n, outcome := range outcomes {
		u := newUpdate(fmt.Sprint("u", n+1), fmt.Sprint("ep", n%2), []string{"i1", "i2"}[n/3])
		u.Labels = map[string]string{"site": fmt.Sprint(n % 2), "all": ""}
		commit(t, db, store.CreateUpdate{Update: u})
		if outcome != fsm.OutcomeNone {
			commit(t, db, store.ReplaceUpdate{Update: endedWith(getUpdate(t, db, u.ID), outcome)})
		}
	}
	site := func(value string) map[string]string { return map[string]string{"site": value, "all": ""} }
	check := func(tests map[string]store.UpdateQuery) {
		t.Helper()
		for want, q := range tests {
			got := ""
			for _, id := range collect(t, db.Updates(t.Context(), q), updateID) {
				got += id[1:]
			}
			if got != want && want[0] != '-' || want[0] == '-' && got != "" {
				t.Errorf("Updates(%+v) = %s, want %s", q, got, want)
			}
		}
	}
	check(map[string]store.UpdateQuery{
		"31": {Outcome: fsm.OutcomeSucceeded},
		"13": {Outcome: fsm.OutcomeSucceeded, Oldest: true},
		"42": {Outcome: fsm.OutcomeFailed},
		"2":  {Outcome: fsm.OutcomeFailed, After: "u4"},
		"5":  {Outcome: fsm.OutcomeTimedOut, Image: "i2"},
		"4":  {Outcome: fsm.OutcomeFailed, Image: "i2", Endpoint: "ep1", Labels: site("1")},
		"3":  {Outcome: fsm.OutcomeSucceeded, Labels: site("0"), Limit: 1},
		"6":  {Labels: site("1"), Active: true},
		"-a": {Outcome: fsm.OutcomeFailed, Labels: site("0")},
		"-b": {Outcome: fsm.OutcomeCancelled},
		"-c": {Outcome: fsm.OutcomeFailed, Active: true},
	})
	// An outcome can be corrected, and ended updates go.
	commit(t, db, store.ReplaceUpdate{Update: endedWith(getUpdate(t, db, "u2"), fsm.OutcomeSucceeded)},
		store.DeleteUpdate{ID: "u1"}, store.ReplaceUpdate{Update: getUpdate(t, db, "u3")})
	check(map[string]store.UpdateQuery{
		"32": {Outcome: fsm.OutcomeSucceeded},
		"4":  {Outcome: fsm.OutcomeFailed},
		"53": {Labels: site("0")},
	})
	for _, test := range []struct {
		image string
		want  []store.Count
	}{
		{"", []store.Count{
			{Image: "i1", Outcome: fsm.OutcomeSucceeded, Updates: 2},
			{Image: "i2", Outcome: fsm.OutcomeNone, Updates: 1}, {Image: "i2", Outcome: fsm.OutcomeFailed, Updates: 1},
			{Image: "i2", Outcome: fsm.OutcomeTimedOut, Updates: 1},
		}},
		{"i1", []store.Count{{Image: "i1", Outcome: fsm.OutcomeSucceeded, Updates: 2}}},
		{"i", nil},
	} {
		got, err := db.Counts(t.Context(), test.image)
		failsWith(t, "Counts", err, nil)
		equal(t, "counts of "+test.image, got, test.want)
	}
}

// testEnds lists updates by the time of their end.
func testEnds(t *testing.T, db store.Store) {
	seed(t, db)
	for n, minutes := range []int{3, 1, 2, 2, 5, 4} {
		u := endedWith(newUpdate(fmt.Sprint("u", n), fmt.Sprint("ep", n%2), "i1"), []fsm.Outcome{fsm.OutcomeFailed, fsm.OutcomeSucceeded}[n/5])
		u.Machine.Ended = epoch.Add(time.Duration(minutes) * time.Minute)
		u.Labels = map[string]string{"site": fmt.Sprint(n % 2)}
		if n%2 == 0 { // it is active before
			before := u
			before.Machine = newUpdate(u.ID, u.Endpoint, "i1").Machine
			commit(t, db, store.CreateUpdate{Update: before})
			u.Revision = 1
			commit(t, db, store.ReplaceUpdate{Update: u})
		} else {
			commit(t, db, store.CreateUpdate{Update: u})
		}
	}
	commit(t, db, store.CreateUpdate{Update: newUpdate("active", "ep0", "i1")})
	odd := func(u store.Update) bool { return u.ID != "u3" }
	check := func(want string, q store.UpdateQuery) {
		t.Helper()
		for _, oldest := range []bool{false, true} {
			for limit := range 4 {
				page := q
				page.ByEnd, page.Oldest, page.Limit = true, oldest, limit
				got := ""
				for more, pages := true, 0; more && pages < 10; pages++ {
					more = false
					for u, err := range db.Updates(t.Context(), page) {
						if err != nil {
							t.Fatal(err)
						}
						got += u.ID[1:]
						page.After, page.AfterEnd, more = u.ID, u.End(), limit > 0
					}
				}
				expected := []byte(want)
				if oldest {
					slices.Reverse(expected)
				}
				if got != string(expected) {
					t.Errorf("Updates(%+v), pages of %d = %s, want %s", page, limit, got, expected)
				}
			}
		}
	}
	check("40321", store.UpdateQuery{Outcome: fsm.OutcomeFailed})
	check("5", store.UpdateQuery{Outcome: fsm.OutcomeSucceeded})
	check("", store.UpdateQuery{Outcome: fsm.OutcomeCancelled})
	check("", store.UpdateQuery{})
	check("31", store.UpdateQuery{Outcome: fsm.OutcomeFailed, Labels: map[string]string{"site": "1"}})
	check("402", store.UpdateQuery{Outcome: fsm.OutcomeFailed, Endpoint: "ep0", Image: "i1"})
	check("4021", store.UpdateQuery{Outcome: fsm.OutcomeFailed, Filter: odd})

	// The update that a page ended with may go. Outcomes and times can be corrected.
	later := getUpdate(t, db, "u1")
	later.Machine.Ended = epoch.Add(9 * time.Minute)
	commit(t, db, store.DeleteUpdate{ID: "u0"}, store.ReplaceUpdate{Update: later},
		store.ReplaceUpdate{Update: endedWith(getUpdate(t, db, "u2"), fsm.OutcomeSucceeded)})
	check("143", store.UpdateQuery{Outcome: fsm.OutcomeFailed})
	check("52", store.UpdateQuery{Outcome: fsm.OutcomeSucceeded})
	equal(t, "after one that is gone", collect(t, db.Updates(t.Context(), store.UpdateQuery{
		Outcome: fsm.OutcomeFailed, ByEnd: true, After: "u0", AfterEnd: epoch.Add(3 * time.Minute),
	}), updateID), []string{"u3"})
}

// testShortPages reads all that a Filter selects, page by page, through many records that it does
// not select.
func testShortPages(t *testing.T, db store.Store) {
	seed(t, db)
	const n = store.MaxSkipped + 500
	for start := 0; start < n; start += 500 {
		var changes []store.Change
		for i := start; i < start+500; i++ {
			u := newUpdate(id(i), fmt.Sprint("ep", i), "i1")
			changes = append(changes, store.CreateUpdate{Update: ended(u)},
				store.PutFirmware{Endpoint: id(i), Firmware: store.Firmware{Version: "1"}})
		}
		commit(t, db, changes...)
	}
	q := store.UpdateQuery{Limit: 2, Filter: func(u store.Update) bool { return u.ID == id(0) || u.ID == id(n-1) }}
	equal(t, "updates", pages(t, func() ([]string, error) {
		ids, err := page(t, db.Updates(t.Context(), q), updateID)
		if len(ids) > 0 {
			q.After = ids[len(ids)-1]
		}
		return ids, err
	}), []string{id(n - 1), id(0)})
	d := store.DeviceQuery{Limit: 2, Filter: func(d store.Device) bool { return d.Endpoint == id(0) || d.Endpoint == id(n-1) }}
	equal(t, "devices", pages(t, func() ([]string, error) {
		endpoints, err := page(t, db.Devices(t.Context(), d), endpointOf)
		if len(endpoints) > 0 {
			d.After = endpoints[len(endpoints)-1]
		}
		return endpoints, err
	}), []string{id(0), id(n - 1)})
	// Without a Limit, and where all are selected, nothing is left out.
	q = store.UpdateQuery{Filter: q.Filter}
	equal(t, "without a limit", collect(t, db.Updates(t.Context(), q), updateID), []string{id(n - 1), id(0)})
	equal(t, "long page", len(collect(t, db.Updates(t.Context(), store.UpdateQuery{Limit: n}), updateID)), n)
}

// page returns the keys of a page. The last one is that of ErrShort if the page is short.
func page[T any](t *testing.T, seq func(func(T, error) bool), key func(T) string) (keys []string, err error) {
	t.Helper()
	for record, failed := range seq {
		if failed != nil && !errors.Is(failed, store.ErrShort) {
			t.Fatal(failed)
		}
		keys, err = append(keys, key(record)), failed
	}
	return keys, err
}

// pages joins pages until one is empty.
func pages(t *testing.T, next func() ([]string, error)) (all []string) {
	t.Helper()
	for range 10 {
		keys, err := next()
		if len(keys) == 0 {
			return all
		}
		if err != nil {
			keys = keys[:len(keys)-1]
		}
		all = append(all, keys...)
	}
	t.Fatal("the pages have no end")
	return nil
}

// testOldKeys deletes updates whose keys stay taken for a while.
func testOldKeys(t *testing.T, db store.Store) {
	seed(t, db)
	create := func(id, key string, at time.Time) store.CreateUpdate {
		u := withKey(newUpdate(id, "ep", "i1"), key)
		u.Created = at
		return store.CreateUpdate{Update: ended(u)}
	}
	commit(t, db, create("u1", "key", epoch), create("u2", "other", epoch), create("u3", "", epoch))
	commit(t, db, store.DeleteUpdate{ID: "u1", At: epoch}, store.DeleteUpdate{ID: "u2"}, store.DeleteUpdate{ID: "u3", At: epoch})
	err := refuse(t, db, store.ErrDuplicate, create("u4", "key", epoch.Add(store.KeyRest-time.Second)))
	if duplicate, ok := errors.AsType[*store.UpdateError](err); !ok || duplicate.ID != "u1" {
		t.Fatalf("%v, want the id of the deleted update", err)
	}
	equal(t, "updates of the key", collect(t, db.Updates(t.Context(), store.UpdateQuery{Key: "key"}), updateID), []string{})
	commit(t, db, create("u5", "other", epoch), create("u6", "", epoch))

	commit(t, db, create("u4", "key", epoch.Add(store.KeyRest)))
	refuse(t, db, store.ErrDuplicate, create("u7", "key", epoch.AddDate(1, 0, 0)))
	// The end of the first rest does not free the key of the second update.
	at := epoch.Add(2 * store.KeyRest)
	commit(t, db, store.DeleteUpdate{ID: "u5", At: at})
	refuse(t, db, store.ErrDuplicate, create("u7", "key", at))
	commit(t, db, store.DeleteUpdate{ID: "u4", At: at})
	refuse(t, db, store.ErrDuplicate, create("u7", "key", at))
	commit(t, db, create("u7", "key", at.Add(store.KeyRest)))
}

// testSpan says where the journal begins and ends while lines come and go.
func testSpan(t *testing.T, db store.Store) {
	span := func(want store.Span) {
		t.Helper()
		got, err := db.Span(t.Context())
		failsWith(t, "Span", err, nil)
		equal(t, "span", got, want)
	}
	span(store.Span{})
	seed(t, db)
	commit(t, db, store.CreateUpdate{Update: ended(newUpdate("u1", "ep", "i1"))}, store.CreateUpdate{Update: ended(newUpdate("u2", "ep", "i1"))})
	first := commit(t, db, store.AppendEvents{Events: []store.Event{newEvent("u1", "a")}})
	second := commit(t, db, store.AppendEvents{Events: []store.Event{newEvent("u2", "b")}})
	third := commit(t, db, store.AppendEvents{Events: []store.Event{newEvent("u1", "c")}})
	span(store.Span{First: first, Last: third})
	commit(t, db, store.DeleteUpdate{ID: "u2"})
	span(store.Span{First: first, Last: third, Deleted: second})
	commit(t, db, store.DeleteUpdate{ID: "u1"})
	span(store.Span{Last: third, Deleted: third})

	commit(t, db, store.CreateUpdate{Update: newUpdate("u3", "ep", "i1")})
	var lines []store.Event
	for range store.JournalHead + store.JournalTail + 1 {
		lines = append(lines, newEvent("u3", "d"))
	}
	last := commit(t, db, store.AppendEvents{Events: lines})
	span(store.Span{First: third + 1, Last: last, Deleted: third + store.JournalHead + 1})
}
