//go:build unix

package postgres_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/pgtest"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/bolt"
	"github.com/otago-iot/otago/store/postgres"
	"github.com/otago-iot/otago/store/storetest"
)

func BenchmarkStore(b *testing.B) { storetest.Benchmark(b, fresh) }

// BenchmarkWriters has a hundred writers, each of which takes an update step by step, with a
// database that writes through to the disk, and with a file. Run it on a disk on which that takes
// as long as on yours, or under strace:
//
//	strace -f --seccomp-bpf -e trace=fsync,fdatasync -e inject=fsync,fdatasync:delay_exit=10000 \
//		-o /dev/null ./postgres.test -test.run - -test.bench Writers -test.benchtime 2000x
func BenchmarkWriters(b *testing.B) {
	b.Run("postgres", func(b *testing.B) {
		pool, err := openPool(pgtest.Start(b).URL())
		require.NoError(b, err)
		b.Cleanup(pool.Close)
		db, err := postgres.New(pool, postgres.Config{})
		require.NoError(b, err)
		var before, after int64
		count := func(n *int64) {
			require.NoError(b, pool.QueryRow(background, "SELECT commits FROM otago.leases").Scan(n))
		}
		writers(b, db, func() { count(&before) }, func() { count(&after) })
		b.ReportMetric(float64(b.N)/float64(after-before), "commits/transaction")
	})
	b.Run("bolt", func(b *testing.B) {
		dir, err := os.MkdirTemp("", "otago-bolt-")
		require.NoError(b, err)
		b.Cleanup(func() { os.RemoveAll(dir) })
		db, err := bolt.Open(filepath.Join(dir, "ota.db"), bolt.Config{})
		require.NoError(b, err)
		writers(b, db, func() {}, func() {})
	})
}

func writers(b *testing.B, db store.Store, began, ended func()) {
	const n = 100
	_, err := db.Commit(b.Context(), store.CreateImage{Image: store.Image{ID: "i", Version: "1"}})
	require.NoError(b, err)
	updates := make([]store.Update, n)
	for w := range updates {
		name := fmt.Sprintf("u%04d", w)
		updates[w] = store.Update{ID: name, Endpoint: name, Image: "i", Machine: fsm.NewUpdate(fsm.Plan{}, time.Now())}
		_, err := db.Commit(b.Context(), store.CreateUpdate{Update: updates[w]})
		require.NoError(b, err)
		updates[w].Revision = 1
	}
	began()
	b.ResetTimer()
	var work sync.WaitGroup
	for w := range updates {
		work.Go(func() {
			u := updates[w]
			for i := w; i < b.N; i += n {
				u.Machine.Bytes = int64(i)
				if _, err := db.Commit(b.Context(), store.ReplaceUpdate{Update: u}, line(u, "step")); err != nil {
					b.Error(err)
					return
				}
				u.Revision++
			}
		})
	}
	work.Wait()
	b.StopTimer()
	ended()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
	require.NoError(b, db.Close())
}
