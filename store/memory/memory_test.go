package memory_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/internal/kv/kvtest"
	"github.com/otago-iot/otago/store/memory"
	"github.com/otago-iot/otago/store/storetest"
)

func TestStore(t *testing.T) {
	config := storetest.Config{Damage: map[string]func(testing.TB) (store.Store, func(store.Kind, string)){}}
	for name, way := range kvtest.Ways {
		config.Damage[name] = func(t testing.TB) (store.Store, func(store.Kind, string)) {
			db, backend := memory.NewOver()
			return db, func(kind store.Kind, key string) {
				if err := kvtest.Spoil(backend, kind, key, way); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	storetest.Run(t, func(testing.TB) store.Store { return memory.New() }, config)
}

// TestDangling has indexes that name missing records.
func TestDangling(t *testing.T) {
	db, backend := memory.NewOver()
	defer db.Close()
	ctx := t.Context()
	u := store.Update{ID: "u", Endpoint: "ep", Image: "i", Key: "k", Machine: fsm.NewUpdate(fsm.Plan{}, time.Now())}
	seq, err := db.Commit(ctx, store.CreateImage{Image: store.Image{ID: "i", Version: "1"}}, store.CreateUpdate{Update: u},
		store.AppendEvents{Events: []store.Event{{Update: "u", Name: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	gone := func(_, _ []byte) []byte { return nil }
	for kind, key := range map[store.Kind]string{store.KindUpdate: "u", store.KindEvent: fmt.Sprint(seq)} {
		if err := kvtest.Spoil(backend, kind, key, gone); err != nil {
			t.Fatal(err)
		}
	}
	found := 0
	for got, err := range db.Updates(ctx, store.UpdateQuery{Active: true}) {
		if found++; got.ID != "u" || !errors.Is(err, store.ErrDamaged) {
			t.Errorf("Updates yields %q, %v", got.ID, err)
		}
	}
	for _, err := range db.Events(ctx, store.EventQuery{Update: "u"}) {
		if found++; !errors.Is(err, store.ErrDamaged) {
			t.Errorf("Events yields %v", err)
		}
	}
	if found != 2 {
		t.Errorf("%d pairs, want 2", found)
	}
	if _, err := db.Commit(ctx, store.RemoveDamaged{Kind: store.KindUpdate, Key: "u"}, store.CreateUpdate{Update: u}); err != nil {
		t.Error(err)
	}
}

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, func(testing.TB) store.Store { return memory.New() })
}

func ExampleNew() {
	ctx := context.Background()
	db := memory.New()
	defer db.Close()

	_, err := db.Commit(ctx, store.CreateImage{Image: store.Image{ID: "1", Name: "sensor", Version: "1.1.0"}})
	fmt.Println(err)
	_, err = db.Commit(ctx, store.CreateImage{Image: store.Image{ID: "2", Name: "sensor", Version: "1.1.0"}})
	fmt.Println(err)
	for image, err := range db.Images(ctx, store.ImageQuery{Name: "sensor"}) {
		fmt.Println(image.ID, image.Version, err)
	}
	// Output:
	// <nil>
	// store: another image has this name and version
	// 1 1.1.0 <nil>
}

// TestStepAllocates bounds the allocations for a step of an update with two lines of the journal.
func TestStepAllocates(t *testing.T) {
	db := memory.New()
	defer db.Close()
	ctx := t.Context()
	now := time.Now().UTC().Truncate(time.Microsecond)
	u := store.Update{ID: "u", Endpoint: "ep", Image: "i", Machine: fsm.NewUpdate(fsm.Plan{Target: "1"}, now), Created: now, Changed: now}
	if _, err := db.Commit(ctx, store.CreateImage{Image: store.Image{ID: "i", Version: "1"}}, store.CreateUpdate{Update: u}); err != nil {
		t.Fatal(err)
	}
	u.Revision = 1
	step := func() {
		lines := []store.Event{{Update: "u", Endpoint: "ep", Time: now, Name: "a", Phase: fsm.PhaseWaiting}, {Update: "u", Endpoint: "ep", Time: now, Name: "b", Phase: fsm.PhaseWaiting}}
		if _, err := db.Commit(ctx, store.ReplaceUpdate{Update: u}, store.AppendEvents{Events: lines}); err != nil {
			t.Fatal(err)
		}
		u.Revision++
	}
	const most = 24
	if n := testing.AllocsPerRun(100, step); n > most {
		t.Errorf("a step takes %.0f allocations, more than %d", n, most)
	}
}
