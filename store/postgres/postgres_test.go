//go:build unix

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/rollout/rollouttest"
	"github.com/otago-iot/otago/internal/pgtest"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/postgres"
	"github.com/otago-iot/otago/store/storetest"
)

// background is for what tests share, which outlives each of them.
var background = context.Background()

var openShared = sync.OnceValues(func() (*pgxpool.Pool, error) { return openPool(sharedURL) })

var sharedURL string

// shared returns a pool of connections to a database with tables, for all tests.
func shared(t testing.TB) *pgxpool.Pool {
	t.Helper()
	sharedURL = pgtest.Shared(t).URL()
	pool, err := openShared()
	require.NoError(t, err)
	return pool
}

// openPool opens a pool, and makes the tables.
func openPool(url string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = 16
	pool, err := pgxpool.NewWithConfig(background, config)
	if err == nil {
		err = postgres.Migrate(background, pool)
	}
	return pool, err
}

var spaces atomic.Int64

// place returns a function that opens a store in a namespace of its own.
func place(t testing.TB) func() store.Store {
	pool := shared(t)
	namespace := fmt.Sprint("test ", spaces.Add(1))
	return func() store.Store {
		db, err := postgres.New(pool, postgres.Config{Namespace: namespace})
		require.NoError(t, err)
		return db
	}
}

func fresh(t testing.TB) store.Store { return place(t)() }

// ways are ways to damage a record column.
var ways = map[string]string{
	"garbage":          `'\x01676172626167ff'`,
	"cut short":        `substr(record, 1, length(record) / 2)`,
	"cut":              `'\x016162'`,
	"no bytes":         `''`,
	"another format":   `set_byte(record, 0, 77)`,
	"one bit":          `set_byte(record, length(record) - 1, get_byte(record, length(record) - 1) # 16)`,
	"another's record": `(SELECT record FROM otago.devices WHERE endpoint = 'another''s')`,
}

// spoil damages a record.
func spoil(t testing.TB, pool *pgxpool.Pool, namespace, way string, kind store.Kind, key string) {
	t.Helper()
	rollout, part, _ := strings.Cut(key, " ")
	set, args := "record = "+way, []any{namespace, key}
	where := map[store.Kind]string{
		store.KindUpdate: "firmware_updates WHERE id = $2", store.KindImage: "firmware_images WHERE id = $2",
		store.KindDevice: "devices WHERE endpoint = $2", store.KindRollout: "rollouts WHERE id = $2",
		store.KindMember: "rollout_members WHERE rollout = $2 AND endpoint = $3", store.KindEvent: "firmware_journal WHERE seq = $2::text::bigint",
		store.KindRolloutEvent: "rollout_journal WHERE rollout = $2 AND seq = $3::text::bigint",
	}[kind]
	switch kind {
	case store.KindMember:
		args = []any{namespace, rollout, part}
	case store.KindRolloutEvent:
		set, args = "event = ''", []any{namespace, rollout, part}
	case store.KindEvent:
		set = "phase = 'no such word'"
	}
	table, condition, _ := strings.Cut(where, " WHERE ")
	tag, err := pool.Exec(background, "UPDATE otago."+table+" SET "+set+" WHERE namespace = $1 AND "+condition, args...)
	require.NoError(t, err)
	require.EqualValues(t, 1, tag.RowsAffected())
}

// damages returns the ways in which a record can be damaged, each in a namespace of its own.
func damages(t testing.TB) map[string]func(testing.TB) (*postgres.Store, func(store.Kind, string)) {
	pool := shared(t)
	other, err := postgres.New(pool, postgres.Config{Namespace: "others"})
	require.NoError(t, err)
	_, err = other.Commit(background, store.PutFirmware{Endpoint: "another's", Firmware: store.Firmware{Version: "1"}})
	require.NoError(t, err)
	require.NoError(t, other.Close())
	all := map[string]func(testing.TB) (*postgres.Store, func(store.Kind, string)){}
	for name, way := range ways {
		all[name] = func(t testing.TB) (*postgres.Store, func(store.Kind, string)) {
			namespace := fmt.Sprint("damage ", spaces.Add(1))
			db, err := postgres.New(pool, postgres.Config{Namespace: namespace})
			require.NoError(t, err)
			return db, func(kind store.Kind, key string) { spoil(t, pool, namespace, way, kind, key) }
		}
	}
	return all
}

func TestStore(t *testing.T) {
	config := storetest.Config{Durable: place, Damage: map[string]func(testing.TB) (store.Store, func(store.Kind, string)){}}
	for name, open := range damages(t) {
		config.Damage[name] = func(t testing.TB) (store.Store, func(store.Kind, string)) { return open(t) }
	}
	storetest.Run(t, fresh, config)
}

func TestRollouts(t *testing.T) {
	config := rollouttest.Config{
		Durable: func(t testing.TB) func() rollouttest.Store {
			open := place(t)
			return func() rollouttest.Store { return open().(*postgres.Store) }
		},
		Damage: map[string]func(testing.TB) (rollouttest.Store, func(store.Kind, string)){},
	}
	for name, open := range damages(t) {
		config.Damage[name] = func(t testing.TB) (rollouttest.Store, func(store.Kind, string)) { return open(t) }
	}
	rollouttest.Run(t, func(t testing.TB) rollouttest.Store { return fresh(t).(*postgres.Store) }, config)
}

// A spread is several stores that write one namespace at once: each call goes to another one.
type spread struct {
	store.Store
	all  []*postgres.Store
	next atomic.Int64
}

func newSpread(t testing.TB) *spread {
	pool := shared(t)
	config := postgres.Config{Namespace: fmt.Sprint("spread ", spaces.Add(1))}
	s := &spread{}
	for range 4 {
		db, err := postgres.OpenUnfenced(background, pool, config)
		require.NoError(t, err)
		s.all = append(s.all, db)
	}
	s.Store = s.all[0]
	return s
}

func (s *spread) pick() *postgres.Store { return s.all[int(s.next.Add(1))%len(s.all)] }

func (s *spread) Commit(ctx context.Context, changes ...store.Change) (uint64, error) {
	return s.pick().Commit(ctx, changes...)
}

func (s *spread) Update(ctx context.Context, id string) (store.Update, error) {
	return s.pick().Update(ctx, id)
}

func (s *spread) Updates(ctx context.Context, q store.UpdateQuery) iter.Seq2[store.Update, error] {
	return s.pick().Updates(ctx, q)
}

func (s *spread) Events(ctx context.Context, q store.EventQuery) iter.Seq2[store.Event, error] {
	return s.pick().Events(ctx, q)
}

func (s *spread) Close() error {
	var errs []error
	for _, db := range s.all {
		errs = append(errs, db.Close())
	}
	return errors.Join(errs...)
}

// TestSeveral runs the suite over several stores of one namespace, which no lease keeps apart: the
// locks and the unique indexes keep the rules, and the journal's lines become visible in their
// order.
func TestSeveral(t *testing.T) {
	storetest.Run(t, func(t testing.TB) store.Store { return newSpread(t) }, storetest.Config{})
}
