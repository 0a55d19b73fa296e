package storetest

import (
	"fmt"
	"testing"

	"github.com/otago-iot/otago/store"
)

func testUpdateQueries(t *testing.T, db store.Store) {
	seed(t, db)
	commit(t, db, store.CreateImage{Image: newImage("i2", "2")})
	// u1..u6: endpoints a and b in turn, images i1 i1 i2 i2 i1 i1; the last of each endpoint is
	// active.
	for n := range 6 {
		u := newUpdate(fmt.Sprintf("u%d", n+1), []string{"a", "b"}[n%2], []string{"i1", "i2", "i1"}[n/2])
		if n < 4 {
			u = ended(u)
		}
		commit(t, db, store.CreateUpdate{Update: withKey(u, "key "+u.ID)})
	}
	commit(t, db, store.CreateUpdate{Update: newUpdate("u7", "ab", "i2")})
	even := func(u store.Update) bool { return (u.ID[1]-'0')%2 == 0 }
	for _, test := range []struct {
		q    store.UpdateQuery
		want []string
	}{
		{store.UpdateQuery{}, []string{"u7", "u6", "u5", "u4", "u3", "u2", "u1"}},
		{store.UpdateQuery{Oldest: true}, []string{"u1", "u2", "u3", "u4", "u5", "u6", "u7"}},
		{store.UpdateQuery{Limit: 2}, []string{"u7", "u6"}},
		{store.UpdateQuery{After: "u6", Limit: 2}, []string{"u5", "u4"}},
		{store.UpdateQuery{After: "u5x", Oldest: true, Limit: 2}, []string{"u6", "u7"}},
		{store.UpdateQuery{After: "u5x", Limit: 2}, []string{"u5", "u4"}},
		{store.UpdateQuery{Endpoint: "a"}, []string{"u5", "u3", "u1"}},
		{store.UpdateQuery{Endpoint: "a", Oldest: true, After: "u1"}, []string{"u3", "u5"}},
		{store.UpdateQuery{Endpoint: "a", After: "u5"}, []string{"u3", "u1"}},
		{store.UpdateQuery{Endpoint: "a", Active: true}, []string{"u5"}},
		{store.UpdateQuery{Endpoint: "a", Active: true, After: "u5"}, []string{}},
		{store.UpdateQuery{Endpoint: "a", Active: true, After: "u6"}, []string{"u5"}},
		{store.UpdateQuery{Endpoint: "a", Active: true, Image: "i2"}, []string{}},
		{store.UpdateQuery{Endpoint: "c"}, []string{}},
		{store.UpdateQuery{Endpoint: "c", Active: true}, []string{}},
		{store.UpdateQuery{Image: "i2"}, []string{"u7", "u4", "u3"}},
		{store.UpdateQuery{Image: "i2", Oldest: true}, []string{"u3", "u4", "u7"}},
		{store.UpdateQuery{Image: "i1", Active: true}, []string{"u6", "u5"}},
		{store.UpdateQuery{Image: "i1", Active: true, Oldest: true, After: "u5"}, []string{"u6"}},
		{store.UpdateQuery{Image: "i1", Endpoint: "b"}, []string{"u6", "u2"}},
		{store.UpdateQuery{Active: true}, []string{"u7", "u6", "u5"}},
		{store.UpdateQuery{Active: true, Oldest: true, Limit: 2}, []string{"u5", "u6"}},
		{store.UpdateQuery{Active: true, After: "u6"}, []string{"u5"}},
		{store.UpdateQuery{Key: "key u3"}, []string{"u3"}},
		{store.UpdateQuery{Key: "key u3", Active: true}, []string{}},
		{store.UpdateQuery{Key: "key u3", Endpoint: "b"}, []string{}},
		{store.UpdateQuery{Filter: even}, []string{"u6", "u4", "u2"}},
		{store.UpdateQuery{Endpoint: "b", Skip: 1}, []string{"u4", "u2"}},
		{store.UpdateQuery{Endpoint: "b", Image: "i1", Skip: 1, Limit: 2}, []string{"u2"}},
		{store.UpdateQuery{Endpoint: "b", Skip: 3}, []string{}},
		{store.UpdateQuery{Skip: 1, Filter: even}, []string{"u6", "u4", "u2"}},
		{store.UpdateQuery{Skip: 1, After: "u6", Oldest: true}, []string{}},
		{store.UpdateQuery{Endpoint: "b", Active: true, Skip: 1}, []string{}},
		{store.UpdateQuery{Filter: even, Limit: 2, After: "u6"}, []string{"u4", "u2"}},
		{store.UpdateQuery{Filter: even, Endpoint: "b", Active: true}, []string{"u6"}},
	} {
		if got := collect(t, db.Updates(t.Context(), test.q), updateID); !sameStrings(got, test.want) {
			t.Errorf("Updates(%+v) = %v, want %v", test.q, got, test.want)
		}
	}
}

// testPaging pages through updates while some are created and some end.
func testPaging(t *testing.T, db store.Store) {
	seed(t, db)
	const n = 300
	fill(t, db, n, 2)
	for _, oldest := range []bool{false, true} {
		q := store.UpdateQuery{Oldest: oldest, Limit: 7, Filter: func(u store.Update) bool { return u.Endpoint[0] == 'e' }}
		var got, want []string
		for i := range n {
			want = append(want, id(2*i))
			if !oldest {
				want[i] = id(2 * (n - 1 - i))
			}
		}
		for page := 0; ; page++ {
			ids := collect(t, db.Updates(t.Context(), q), updateID)
			if len(ids) == 0 {
				break
			}
			got = append(got, ids...)
			q.After = ids[len(ids)-1]
			// Create one update among those that were read, and one among those that were not.
			for k, at := range []int{page, n - 1 - page} {
				late := newUpdate(fmt.Sprintf("%s-%d-%t", id(2*at+1), k, oldest), fmt.Sprint("late", oldest, page, k), "i1")
				commit(t, db, store.CreateUpdate{Update: late})
			}
			commit(t, db, store.ReplaceUpdate{Update: ended(getUpdate(t, db, q.After))})
		}
		equal(t, "pages", got, want)
	}
}

func testWriteInLoop(t *testing.T, db store.Store) {
	seed(t, db)
	const n = 150
	fill(t, db, n, 1)
	for i := range n {
		commit(t, db, store.AppendEvents{Events: []store.Event{newEvent(id(i), "a")}})
	}
	seen := 0
	filter := func(u store.Update) bool {
		_, err := db.Update(t.Context(), u.ID)
		return err == nil
	}
	for u, err := range db.Updates(t.Context(), store.UpdateQuery{Active: true, Filter: filter}) {
		failsWith(t, "Updates", err, nil)
		commit(t, db, store.ReplaceUpdate{Update: ended(u)})
		seen++
	}
	equal(t, "active updates, each ended as it was seen", seen, n)
	seen = 0
	for d, err := range db.Devices(t.Context(), store.DeviceQuery{}) {
		failsWith(t, "Devices", err, nil)
		commit(t, db, store.PutFirmware{Endpoint: d.Endpoint, Firmware: store.Firmware{Version: "2"}})
		seen++
	}
	equal(t, "devices, each written as it was seen", seen, n)
	for e, err := range db.Events(t.Context(), store.EventQuery{Limit: n}) {
		failsWith(t, "Events", err, nil)
		commit(t, db, store.AppendEvents{Events: []store.Event{newEvent(e.Update, "b")}})
	}
	equal(t, "events", len(collect(t, db.Events(t.Context(), store.EventQuery{}), eventName)), 2*n)
}

func testRangeAgain(t *testing.T, db store.Store) {
	seed(t, db)
	const n = 300
	fill(t, db, n, 1)
	seq := db.Updates(t.Context(), store.UpdateQuery{Limit: n - 1})
	for u := range seq {
		equal(t, "first", u.ID, id(n-1))
		break
	}
	var want []string
	for i := range n - 1 {
		want = append(want, id(n-1-i))
	}
	equal(t, "second range", collect(t, seq, updateID), want)
	commit(t, db, store.CreateUpdate{Update: newUpdate(id(n), "new", "i1")})
	equal(t, "third range", collect(t, seq, updateID), append([]string{id(n)}, want[:n-2]...))
}
