package bolt_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/bolt"
	"github.com/otago-iot/otago/store/internal/kv"
)

func image(n int) store.Image {
	return store.Image{
		ID: fmt.Sprintf("%032x", n), Name: "app", Version: fmt.Sprint(n), Size: 1, SHA256: strings.Repeat("ab", 32),
	}
}

// TestReadsShareTransactions checks that a transaction serves many reads, shows each commit that
// has returned, and keeps neither a growing file nor Close from going on.
func TestReadsShareTransactions(t *testing.T) {
	db, err := bolt.Open(filepath.Join(t.TempDir(), "ota.db"), bolt.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	file := bolt.FileOf(db)
	begun := func() int { stats := file.Stats(); return stats.TxN }

	ctx := t.Context()
	_, err = db.Commit(ctx, store.CreateImage{Image: image(1)})
	require.NoError(t, err)
	before := begun()
	for range 100 {
		_, err := db.Image(ctx, image(1).ID)
		require.NoError(t, err)
	}
	require.Equal(t, 1, begun()-before, "each read began a transaction")

	// Readers beside a writer whose commits make the file grow.
	var readers sync.WaitGroup
	writing, done := context.WithCancel(ctx)
	for range 64 {
		readers.Go(func() {
			for writing.Err() == nil {
				_, _ = db.Image(ctx, image(1).ID)
				runtime.Gosched() // the writer waits for each of them, where there is one processor
			}
		})
	}
	for n := 2; n < 10_000; n += 100 {
		var changes []store.Change
		for one := range 100 {
			i := image(n + one)
			i.Version = strings.Repeat("v", 200) + i.Version
			changes = append(changes, store.CreateImage{Image: i})
		}
		_, err := db.Commit(ctx, changes...)
		require.NoError(t, err)
		_, err = db.Image(ctx, image(n+99).ID)
		require.NoError(t, err, "a read does not show the commit before it")
	}
	done()
	readers.Wait()
}

// TestReadBegunDuringWrite checks that a transaction that was begun during a write, and so does not
// show it, serves no read after it.
func TestReadBegunDuringWrite(t *testing.T) {
	db, err := bolt.Open(filepath.Join(t.TempDir(), "ota.db"), bolt.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	below := bolt.BelowOf(db)
	begun, release := make(chan struct{}), make(chan struct{})
	var read sync.WaitGroup
	require.NoError(t, below.Update(func(w kv.Writer) error {
		read.Go(func() {
			_ = below.View(func(kv.Reader) error {
				close(begun)
				<-release
				return nil
			})
		})
		<-begun
		return w.Put(kv.Meta, []byte("key"), []byte("value"))
	}))
	close(release)
	read.Wait()
	require.NoError(t, below.View(func(r kv.Reader) error {
		require.Equal(t, "value", string(r.Get(kv.Meta, []byte("key"))))
		return nil
	}))
}

// TestReadsOfForeignFile checks that reads keep no transaction of a file that another has opened,
// whose own writes would wait for it when the file grows.
func TestReadsOfForeignFile(t *testing.T) {
	file, err := bbolt.Open(filepath.Join(t.TempDir(), "shared.db"), 0o600, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	db, err := bolt.New(file, bolt.Config{})
	require.NoError(t, err)
	_, err = db.Commit(t.Context(), store.CreateImage{Image: image(1)})
	require.NoError(t, err)
	_, err = db.Image(t.Context(), image(1).ID)
	require.NoError(t, err)
	stats := file.Stats()
	require.Zero(t, stats.OpenTxN)
	require.NoError(t, db.Close())
}
