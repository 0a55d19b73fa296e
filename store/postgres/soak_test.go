//go:build unix

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/pgtest"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/postgres"
)

// soak makes updates, and ends them, from several goroutines, until ctx ends. It says which commits
// were acknowledged. After a commit of which it does not know whether it took place, it reads.
func soak(ctx context.Context, db store.Store, acknowledged func(line string)) error {
	if err := until(ctx, func() error {
		_, err := db.Commit(ctx, store.CreateImage{Image: store.Image{ID: "i", Version: "1"}})
		if errors.Is(err, store.ErrExists) {
			return nil
		}
		return err
	}); err != nil {
		return err
	}
	life := rand.Uint32()
	errs := make([]error, 8)
	var workers sync.WaitGroup
	for w := range errs {
		workers.Go(func() {
			endpoint := fmt.Sprint("ep", w)
			for n := 0; ctx.Err() == nil && errs[w] == nil; n++ {
				errs[w] = until(ctx, func() error { return endAll(ctx, db, endpoint, acknowledged) })
				u := store.Update{
					ID: fmt.Sprintf("%08x-%d-%06d", life, w, n), Endpoint: endpoint, Image: "i", Machine: fsm.NewUpdate(fsm.Plan{}, time.Now()),
				}
				_, err := db.Commit(ctx, store.CreateUpdate{Update: u}, line(u, "created"))
				switch {
				case err == nil:
					acknowledged("created " + u.ID)
				case errors.Is(err, postgres.ErrLost):
					errs[w] = err
				case ctx.Err() == nil && !away(err):
					errs[w] = fmt.Errorf("create %s: %w", u.ID, err)
				}
			}
		})
	}
	workers.Wait()
	return errors.Join(errs...)
}

// endAll ends the active update of an endpoint.
func endAll(ctx context.Context, db store.Store, endpoint string, acknowledged func(line string)) error {
	for u, err := range db.Updates(ctx, store.UpdateQuery{Endpoint: endpoint, Active: true}) {
		if err != nil {
			return err
		}
		u.Machine.Outcome = fsm.OutcomeCancelled
		if _, err := db.Commit(ctx, store.ReplaceUpdate{Update: u}, line(u, "ended")); err != nil {
			return err
		}
		acknowledged("ended " + u.ID)
	}
	return nil
}

func line(u store.Update, name string) store.Change {
	return store.AppendEvents{Events: []store.Event{{Update: u.ID, Endpoint: u.Endpoint, Name: name}}}
}

// until repeats what fails because the database is away.
func until(ctx context.Context, fn func() error) error {
	for {
		err := fn()
		if err == nil || ctx.Err() != nil || !away(err) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// away reports whether an error is none of a store.
func away(err error) bool {
	for _, known := range []error{
		store.ErrNotFound, store.ErrExists, store.ErrConflict, store.ErrActive, store.ErrDuplicate, store.ErrInvalid, store.ErrDamaged,
		store.ErrClosed, postgres.ErrLost,
	} {
		if errors.Is(err, known) {
			return false
		}
	}
	return true
}

// An account counts the acknowledged commits of each update.
type account struct {
	mu      sync.Mutex
	commits map[string]int
}

func (a *account) note(line string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, id, _ := strings.Cut(line, " ")
	a.commits[id]++
}

// check compares the account with the store: no acknowledged commit is missing, none took place
// twice, and the journal has a line of each.
func (a *account) check(t *testing.T, db store.Store) {
	t.Helper()
	ctx := t.Context()
	for id, commits := range a.commits {
		u, err := db.Update(ctx, id)
		require.NoError(t, err)
		require.GreaterOrEqual(t, int(u.Revision), commits)
	}
	active := 0
	for u, err := range db.Updates(ctx, store.UpdateQuery{}) {
		require.NoError(t, err)
		lines := 0
		for _, err := range db.Events(ctx, store.EventQuery{Update: u.ID}) {
			require.NoError(t, err)
			lines++
		}
		require.Equal(t, int(u.Revision), lines, "update %s", u.ID)
		require.Equal(t, u.Revision == 1, u.Active(), "update %s", u.ID)
		if u.Active() {
			active++
		}
	}
	counts, err := db.Counts(ctx, "i")
	require.NoError(t, err)
	for _, c := range counts {
		if c.Outcome == fsm.OutcomeNone {
			require.EqualValues(t, active, c.Updates)
		}
	}
}

// TestKilled kills, several times, a process that writes.
func TestKilled(t *testing.T) {
	shared(t)
	a := &account{commits: map[string]int{}}
	for range 3 {
		p := startChild(t, "killed", soakEnv+"=1")
		for commits := 100 + rand.IntN(400); commits > 0; commits-- {
			require.True(t, p.lines.Scan(), "the child has ended")
			a.note(p.lines.Text())
		}
		require.NoError(t, p.cmd.Process.Kill())
		for p.lines.Scan() {
			if l := p.lines.Text(); strings.Count(l, "-") == 2 && len(l[strings.LastIndex(l, "-"):]) == 7 { // not cut
				a.note(l)
			}
		}
		db := takeOver(t, "killed")
		a.check(t, db)
		require.NoError(t, db.Close())
	}
}

// TestDatabaseKilled kills the database, several times, while a store writes: what was acknowledged
// is there, nothing took place twice, and the store goes on by itself.
func TestDatabaseKilled(t *testing.T) {
	server := pgtest.Start(t, "fsync=off")
	pool, err := openPool(server.URL())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	db, err := postgres.New(pool, postgres.Config{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	a := &account{commits: map[string]int{}}
	done := make(chan error, 1)
	go func() { done <- soak(ctx, db, a.note) }()
	for range 5 {
		before := a.size()
		require.Eventually(t, func() bool { return a.size() > before+50 }, 40*time.Second, time.Millisecond)
		server.Kill()
		require.NoError(t, server.Start())
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		require.NoError(t, err)
	}
	_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: "ep"}) // after those that were not waited for
	require.NoError(t, err)
	a.check(t, db)
	t.Logf("%d updates", a.size())
	require.NoError(t, db.Close())
}

func (a *account) size() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.commits)
}

// poolOf opens a pool with settings of its own.
func poolOf(t testing.TB, url string, set func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	set(config)
	pool, err := pgxpool.NewWithConfig(background, config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// soakFor runs the soak for a while on a pool, and checks what it did.
func soakFor(t *testing.T, pool *pgxpool.Pool, config postgres.Config, updates int) {
	t.Helper()
	db, err := postgres.New(pool, config)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a := &account{commits: map[string]int{}}
	done := make(chan error, 1)
	go func() { done <- soak(ctx, db, a.note) }()
	require.Eventually(t, func() bool { return a.size() >= updates }, 40*time.Second, time.Millisecond)
	require.Eventually(t, db.Holds, 20*time.Second, time.Millisecond, "the lease is renewed")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		require.NoError(t, err)
	}
	_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: "ep"}) // after those that were not waited for
	require.NoError(t, err)
	a.check(t, db)
	require.NoError(t, db.Close())
}

// TestFewConnections works with a pool of one connection, and of two, and with a database that
// refuses more than two while the pool wants more.
func TestFewConnections(t *testing.T) {
	pool := shared(t)
	for n := range int32(2) {
		t.Run(fmt.Sprint("pool of ", n+1), func(t *testing.T) {
			small := poolOf(t, sharedURL, func(config *pgxpool.Config) { config.MaxConns = n + 1 })
			soakFor(t, small, postgres.Config{Namespace: fmt.Sprint("pool of ", n+1)}, 300)
		})
	}
	t.Run("refused", func(t *testing.T) {
		for _, sql := range []string{"CREATE ROLE few LOGIN CONNECTION LIMIT 2", "CREATE SCHEMA few AUTHORIZATION few"} {
			_, err := pool.Exec(background, sql)
			require.NoError(t, err)
		}
		own := poolOf(t, sharedURL, func(config *pgxpool.Config) { config.ConnConfig.User, config.MaxConns = "few", 8 })
		require.NoError(t, postgres.MigrateSchema(background, own, "few"))
		soakFor(t, own, postgres.Config{Schema: "few"}, 300)
	})
}

// TestStatementTimeout lets the database end the statements of readers, which a stranger keeps
// waiting: they are made again.
func TestStatementTimeout(t *testing.T) {
	strangers := shared(t)
	pool := poolOf(t, sharedURL, func(config *pgxpool.Config) { config.ConnConfig.RuntimeParams["statement_timeout"] = "800" })
	db, err := postgres.New(pool, postgres.Config{Namespace: "statement timeout"})
	require.NoError(t, err)
	_, err = db.Commit(t.Context(), store.CreateImage{Image: store.Image{ID: "i", Version: "1"}})
	require.NoError(t, err)
	stranger, err := strangers.Begin(t.Context())
	require.NoError(t, err)
	_, err = stranger.Exec(t.Context(), "LOCK TABLE otago.firmware_images IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	read := make(chan error, 1)
	go func() {
		_, err := db.Image(t.Context(), "i")
		read <- err
	}()
	time.Sleep(1200 * time.Millisecond) // more than the limit of a statement
	require.NoError(t, stranger.Rollback(t.Context()))
	require.NoError(t, <-read)
	require.NoError(t, db.Close())
}
