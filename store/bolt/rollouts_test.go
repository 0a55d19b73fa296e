package bolt_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/otago-iot/otago/firmware/rollout/rollouttest"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/bolt"
	"github.com/otago-iot/otago/store/internal/kv/kvtest"
)

func TestRollouts(t *testing.T) {
	// Nothing crashes here but what calls the store.
	unsynced := func(t testing.TB, path string) *bolt.Store {
		file, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
		require.NoError(t, err)
		t.Cleanup(func() { file.Close() })
		db, err := bolt.New(file, bolt.Config{})
		require.NoError(t, err)
		return db
	}
	config := rollouttest.Config{
		Durable: func(t testing.TB) func() rollouttest.Store {
			path := filepath.Join(t.TempDir(), "ota.db")
			return func() rollouttest.Store {
				db, err := bolt.Open(path, bolt.Config{})
				require.NoError(t, err)
				return db
			}
		},
		Damage: map[string]func(testing.TB) (rollouttest.Store, func(store.Kind, string)){},
	}
	for name, way := range kvtest.Ways {
		config.Damage[name] = func(t testing.TB) (rollouttest.Store, func(store.Kind, string)) {
			db := unsynced(t, filepath.Join(t.TempDir(), "ota.db"))
			return db, func(kind store.Kind, key string) {
				if err := kvtest.Spoil(bolt.BackendOf(db), kind, key, way); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	rollouttest.Run(t, func(t testing.TB) rollouttest.Store { return config.Durable(t)() }, config)
}
