package memory_test

import (
	"testing"

	"github.com/otago-iot/otago/firmware/rollout/rollouttest"
	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/internal/kv/kvtest"
	"github.com/otago-iot/otago/store/memory"
)

func TestRollouts(t *testing.T) {
	config := rollouttest.Config{Damage: map[string]func(testing.TB) (rollouttest.Store, func(store.Kind, string)){}}
	if !testing.Short() && !testkit.Race {
		config.Members = 1_000_000
	}
	for name, way := range kvtest.Ways {
		config.Damage[name] = func(t testing.TB) (rollouttest.Store, func(store.Kind, string)) {
			db, backend := memory.NewOver()
			return db, func(kind store.Kind, key string) {
				if err := kvtest.Spoil(backend, kind, key, way); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	rollouttest.Run(t, func(testing.TB) rollouttest.Store { return memory.New() }, config)
}
