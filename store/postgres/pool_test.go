//go:build unix

package postgres_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/pgtest"
	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/postgres"
	"github.com/otago-iot/otago/store/storetest"
)

// TestPooler runs the suite through a pooler in transaction mode, which gives each transaction
// another connection.
func TestPooler(t *testing.T) {
	if testing.Short() || testkit.Race {
		t.Skip("the whole suite once more is not short")
	}
	server := pgtest.Start(t, "fsync=off")
	url := server.Pooler(t)
	named := poolOf(t, url, func(*pgxpool.Config) {})
	_, err := postgres.New(named, postgres.Config{})
	require.ErrorContains(t, err, "default_query_exec_mode=exec")

	pool := poolOf(t, url+"&default_query_exec_mode=exec", func(config *pgxpool.Config) { config.MaxConns = 16 })
	require.NoError(t, postgres.Migrate(background, pool))
	storetest.Run(t, func(t testing.TB) store.Store {
		db, err := postgres.New(pool, postgres.Config{Namespace: fmt.Sprint("pooler ", spaces.Add(1))})
		require.NoError(t, err)
		return db
	}, storetest.Config{})
}

// TestMigrate lets several processes migrate at once, and opens schemas of other versions.
func TestMigrate(t *testing.T) {
	pool := shared(t)
	_, err := postgres.New(pool, postgres.Config{Schema: "none"})
	require.ErrorContains(t, err, "call Migrate first")
	const schema = `od"d schema`
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			if err := postgres.MigrateSchema(background, pool, schema); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	db, err := postgres.New(pool, postgres.Config{Schema: schema})
	require.NoError(t, err)
	_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: "ep"})
	require.NoError(t, err)
	for _, err := range db.Updates(t.Context(), store.UpdateQuery{Labels: map[string]string{"a": "b"}}) {
		require.NoError(t, err)
	}
	require.NoError(t, db.Close())
	require.NoError(t, postgres.MigrateSchema(background, pool, schema), "there is nothing to do")

	_, err = pool.Exec(background, `INSERT INTO "od""d schema".migrations VALUES (99)`)
	require.NoError(t, err)
	_, err = postgres.New(pool, postgres.Config{Schema: schema})
	require.ErrorIs(t, err, store.ErrFormat)
	require.ErrorIs(t, postgres.MigrateSchema(background, pool, schema), store.ErrFormat)
	require.NoError(t, fstest.TestFS(postgres.Migrations(), "001_tables.sql"))
}

// TestRole is that of a role which owns nothing but its schema, without rights in the database.
func TestRole(t *testing.T) {
	pool := shared(t)
	for _, sql := range []string{"CREATE ROLE ota LOGIN", "CREATE SCHEMA ota AUTHORIZATION ota"} {
		_, err := pool.Exec(background, sql)
		require.NoError(t, err)
	}
	own := poolOf(t, sharedURL, func(config *pgxpool.Config) { config.ConnConfig.User = "ota" })
	require.NoError(t, postgres.MigrateSchema(background, own, "ota"))
	db, err := postgres.New(own, postgres.Config{Schema: "ota"})
	require.NoError(t, err)
	_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: "ep"})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.Error(t, postgres.MigrateSchema(background, own, "other"), "it may not make schemas")
}

// TestNotDurable: a pool whose commits are not durable is refused.
func TestNotDurable(t *testing.T) {
	shared(t)
	pool := poolOf(t, sharedURL, func(config *pgxpool.Config) { config.ConnConfig.RuntimeParams["synchronous_commit"] = "off" })
	_, err := postgres.New(pool, postgres.Config{Namespace: "not durable"})
	require.ErrorContains(t, err, "synchronous_commit is off")
}

// TestTimeouts: a database that ends statements, and one that is read only, are no reason to lose a
// commit, and the error says what it was.
func TestTimeouts(t *testing.T) {
	pool := shared(t)
	db, err := postgres.New(pool, postgres.Config{Namespace: "timeouts"})
	require.NoError(t, err)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: "ep"})
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "BEGIN")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "SELECT FROM otago.devices WHERE namespace = 'timeouts' FOR UPDATE")
	require.NoError(t, err)
	// A stranger holds the row: the commit ends with the reason, and others go on.
	_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: "ep", Firmware: store.Firmware{Version: "2"}})
	require.ErrorContains(t, err, "lock timeout")
	require.False(t, errors.Is(err, store.ErrConflict))
	_, err = conn.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: "ep", Firmware: store.Firmware{Version: "3"}})
	require.NoError(t, err)
	require.Eventually(t, db.Holds, 20*time.Second, time.Millisecond)
	require.NoError(t, db.Close())
}
