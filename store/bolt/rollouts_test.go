package bolt_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/rollout/rollouttest"
	"github.com/otago-iot/otago/store/bolt"
)

func TestRollouts(t *testing.T) {
	rollouttest.Run(t, func(t testing.TB) rollouttest.Store {
		db, err := bolt.Open(filepath.Join(t.TempDir(), "ota.db"), bolt.Config{})
		require.NoError(t, err)
		return db
	})
}
