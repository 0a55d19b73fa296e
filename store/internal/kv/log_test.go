package kv

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// A shaky back end keeps tables in memory, and may fail.
type shaky struct {
	tables writeSet
	fail   int    // the next Update fails: 1 without effect, 2 after it has taken place
	inner  int    // transactions
	after  func() // called once a transaction has taken place; may be nil
}

var errShaky = errors.New("shaky")

func (s *shaky) View(fn func(Reader) error) error { return fn(shakyTx{&s.tables}) }

func (s *shaky) Update(fn func(Writer) error) error {
	s.inner++
	var tables writeSet
	tables.merge(&s.tables)
	if err := fn(shakyTx{&tables}); err != nil {
		return err
	}
	fail := s.fail
	s.fail = 0
	if fail != 1 {
		s.tables = tables
		if s.after != nil {
			s.after()
		}
	}
	if fail != 0 {
		return errShaky
	}
	return nil
}

func (s *shaky) Close() error { return nil }

type shakyTx struct{ tables *writeSet }

func (t shakyTx) Get(name Table, key []byte) []byte {
	value, _ := t.tables[name].Get(key)
	return value
}

func (t shakyTx) Ascend(name Table, from []byte) iter.Seq2[[]byte, []byte] {
	return t.tables[name].Ascend(from)
}

func (t shakyTx) Descend(name Table, before []byte) iter.Seq2[[]byte, []byte] {
	return t.tables[name].Descend(before)
}

func (t shakyTx) Put(name Table, key, value []byte) error {
	t.tables[name].Put(slices.Clone(key), slices.Clone(value))
	return nil
}

func (t shakyTx) Delete(name Table, key []byte) error {
	t.tables[name].Delete(key)
	return nil
}

func (t shakyTx) Clear(name Table) error {
	t.tables[name] = Map{}
	return nil
}

// TestLogged runs random transactions on a logged back end and on a map: both show the same, also
// after failures, crashes and orderly ends.
func TestLogged(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			base := &shaky{}
			open := func() *logged {
				b, err := Logged(base)
				if err != nil {
					t.Fatal(err)
				}
				l := b.(*logged)
				l.max = 2000
				return l
			}
			l, want := open(), map[string]string{}
			for n := range 300 {
				switch random.IntN(20) {
				case 0:
					l = open()
					if err := l.View(func(r Reader) error { compareTables(t, "invariant 13: after a crash", r, want); return nil }); err != nil {
						t.Fatal(err)
					}
				case 1:
					if err := l.Close(); err != nil {
						t.Fatal(err)
					}
					if l = open(); l.size != 0 {
						t.Fatal("Close has left a log")
					}
				case 2:
					base.fail = 1 + random.IntN(2)
				}
				next, fails := maps.Clone(want), base.fail
				err := l.Update(func(w Writer) error {
					for i := range 1 + random.IntN(20) {
						key := fmt.Sprintf("%03d", random.IntN(200))
						if random.IntN(3) == 0 {
							delete(next, key)
							_ = w.Delete(events, []byte(key))
							continue
						}
						next[key] = fmt.Sprint(n, " ", i)
						_ = w.Put(events, []byte(key), []byte(next[key]))
					}
					compareTables(t, "in a transaction", w, next)
					return nil
				})
				if (fails != 0) != errors.Is(err, errShaky) {
					t.Fatalf("%v after a failure %d", err, fails)
				}
				if fails != 1 {
					want = next
				}
				if err := l.View(func(r Reader) error { compareTables(t, "after a commit", r, want); return nil }); err != nil {
					t.Fatal(err)
				}
				if err := l.Update(func(w Writer) error { _ = w.Put(events, []byte("x"), []byte("x")); return errors.New("no") }); err == nil {
					t.Fatal("the error of the function is lost")
				}
			}
		})
	}
}

func compareTables(t *testing.T, when string, r Reader, want map[string]string) {
	t.Helper()
	keys := slices.Sorted(maps.Keys(want))
	from := []byte("100")
	at, _ := slices.BinarySearch(keys, string(from))
	check := func(what string, seq iter.Seq2[[]byte, []byte], keys []string) {
		t.Helper()
		var got []string
		for key, value := range seq {
			if want[string(key)] != string(value) {
				t.Fatalf("%s: %s: %s is %s, want %s", when, what, key, value, want[string(key)])
			}
			got = append(got, string(key))
		}
		if !slices.Equal(got, keys) {
			t.Fatalf("%s: %s: %v, want %v", when, what, got, keys)
		}
	}
	check("all", r.Ascend(events, nil), keys)
	check("rising", r.Ascend(events, from), keys[at:])
	below := slices.Clone(keys[:at])
	slices.Reverse(below)
	check("falling", r.Descend(events, from), below)
	for range r.Ascend(events, nil) {
		break // a loop may end early
	}
	for _, key := range []string{"000", "100", "150"} {
		if value := r.Get(events, []byte(key)); string(value) != want[key] {
			t.Fatalf("%s: %s is %s, want %s", when, key, value, want[key])
		}
	}
}

// TestLoggedRests: transactions touch only the log until it is long.
func TestLoggedRests(t *testing.T) {
	base := &shaky{}
	b, err := Logged(base)
	if err != nil {
		t.Fatal(err)
	}
	b.(*logged).max = 100_000
	value := make([]byte, 2500) // more than one entry of the log
	for n := range 10 {
		if err := b.Update(func(w Writer) error { return w.Put(devices, number(uint64(n)), value) }); err != nil {
			t.Fatal(err)
		}
	}
	if !base.tables[devices].empty() {
		t.Error("a short log was applied")
	}
	for n := range 50 {
		if err := b.Update(func(w Writer) error { return w.Put(devices, number(uint64(n)), value) }); err != nil {
			t.Fatal(err)
		}
	}
	if base.tables[devices].empty() {
		t.Error("a long log was not applied")
	}
	size := 0
	for _, piece := range base.tables[log].Ascend(nil) {
		if size += len(piece); len(piece) > logPiece {
			t.Fatalf("a piece has %d bytes", len(piece))
		}
	}
	if size > 100_000 {
		t.Errorf("the log has %d bytes", size)
	}
}

// FuzzLog reads any log: it is refused, or written again it has the same writes.
func FuzzLog(f *testing.F) {
	var writes writeSet
	writes[events].Put([]byte("key"), []byte("value"))
	writes[devices].Put([]byte("gone"), nil)
	f.Add(appendLog(nil, &writes))
	f.Add([]byte{byte(events), 0, 0})
	f.Add([]byte{byte(log), 0, 0})
	f.Add([]byte{byte(events), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		var writes, again writeSet
		if parseLog(data, &writes) != nil {
			return
		}
		once := appendLog(nil, &writes)
		if err := parseLog(once, &again); err != nil {
			t.Fatal(err)
		}
		if twice := appendLog(nil, &again); !slices.Equal(once, twice) {
			t.Fatalf("%x became %x", once, twice)
		}
	})
}

// FuzzRecord reads any content of a record: it is refused, or has a record.
func FuzzRecord(f *testing.F) {
	f.Add([]byte{3, 0})
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x05"))
	f.Fuzz(func(t *testing.T, content []byte) {
		key := []byte("key")
		data := append(make([]byte, sealSize), content...)
		seal(key, data)
		_, _ = imageKind.decode(key, data)
		_, _ = deviceKind.decode(key, data)
		_, _ = runKind.decode(key, data)
		var j, again journalIndex
		j.parse(content)
		if again.parse(j.append(nil)); again.head != j.head || !slices.Equal(again.runs, j.runs) {
			t.Fatalf("%+v became %+v", j, again)
		}
		if u, err := updateKind.decode(key, data); err == nil {
			o := newOverlay()
			if err := updateKind.put(o, key, &u); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestLogAppliedDuringView checks that no reader sees half of a transaction: the tables have it a
// moment before the writes in memory do.
func TestLogAppliedDuringView(t *testing.T) {
	base := &shaky{}
	b, err := Logged(base)
	if err != nil {
		t.Fatal(err)
	}
	l := b.(*logged)
	if err := l.Update(func(w Writer) error { return w.Put(updates, []byte("a"), []byte("1")) }); err != nil {
		t.Fatal(err)
	}
	var seen []string
	look := func(r Reader) error {
		seen = append(seen, string(r.Get(updates, []byte("a")))+string(r.Get(images, []byte("b"))))
		return nil
	}
	l.max = 0 // the next Update applies the log
	base.after = func() {
		if err := l.view(look); err != errAhead {
			t.Errorf("a view before the end of the Update: %v, saw %q", err, seen)
		}
	}
	err = l.Update(func(w Writer) error {
		_ = w.Put(images, []byte("b"), []byte("2"))
		return w.Put(updates, []byte("a"), []byte("2"))
	})
	if err != nil {
		t.Fatal(err)
	}
	base.after = nil
	if err := l.View(look); err != nil || !slices.Equal(seen, []string{"22"}) {
		t.Fatal(err, seen)
	}
}
