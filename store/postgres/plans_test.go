//go:build unix

package postgres_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/pgtest"
	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/postgres"
)

// TestPlans lists some of many updates and devices: the database reads the rows of one index, and
// not more than a page has.
func TestPlans(t *testing.T) {
	if testing.Short() || testkit.Race {
		t.Skip("50,000 records are not short")
	}
	pool, err := openPool(pgtest.Start(t, "fsync=off", "autovacuum=off").URL())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	db, err := postgres.New(pool, postgres.Config{})
	require.NoError(t, err)
	fillFleet(t, db)
	for _, sql := range []string{
		`INSERT INTO otago.firmware_updates SELECT namespace, 'v' || n, 'ep' || n / 5, CASE n % 100 WHEN 0 THEN 'rare' ELSE image END, version, '',
			CASE n % 1000 WHEN 0 THEN '{"site": "rare"}' ELSE '{"site": "oslo"}' END::jsonb, state, result,
			CASE WHEN n % 5 = 0 AND n > 49000 THEN NULL WHEN n % 1000 = 1 THEN 'failed' ELSE 'succeeded' END, reason, phase, waiting_for,
			waiting_whose, waiting_until, bytes, size, attempt, old_version, later, created, changed,
			CASE WHEN n % 5 = 0 AND n > 49000 THEN NULL ELSE created + n * interval '1s' END, since, revision, lines, record
			FROM otago.firmware_updates, generate_series(1, 50000) AS n WHERE id = 'u0'`,
		`INSERT INTO otago.firmware_update_labels SELECT namespace, l.key, l.value, id FROM otago.firmware_updates, jsonb_each_text(labels) AS l WHERE id LIKE 'v%'`,
		`INSERT INTO otago.devices SELECT (d).* FROM (SELECT jsonb_populate_record(d, jsonb_build_object('endpoint', 'ep' || n, 'version',
			CASE n % 1000 WHEN 0 THEN '9' ELSE '1.0' END)) AS d FROM otago.devices AS d, generate_series(1, 20000) AS n WHERE endpoint = 'sensor-0000') AS x`,
		`UPDATE otago.device_counts SET devices = devices + 20000 WHERE fact = '' OR fact = 'version'`,
		`INSERT INTO otago.device_counts VALUES ('otago', 'version', '9', 20)`,
		`VACUUM ANALYZE`,
	} {
		_, err := pool.Exec(background, sql)
		require.NoError(t, err, sql)
	}
	for _, q := range []store.UpdateQuery{
		{}, {Oldest: true, After: "v5"}, {Endpoint: "ep7"}, {Endpoint: "ep9990", Active: true}, {Active: true}, {Image: "rare"}, {Image: "rare", Active: true},
		{Outcome: fsm.OutcomeFailed}, {Outcome: fsm.OutcomeSucceeded, Image: "rare"}, {Outcome: fsm.OutcomeFailed, ByEnd: true},
		{Outcome: fsm.OutcomeSucceeded, ByEnd: true, After: "v77", AfterEnd: time.Now()}, {Key: "none"}, {Labels: map[string]string{"site": "rare"}},
		{Labels: map[string]string{"site": "oslo"}, Image: "rare"}, {Labels: map[string]string{"site": "oslo"}, Outcome: fsm.OutcomeFailed},
	} {
		sql, args := postgres.UpdatesQuery(db, q, 50)
		rows, err := pool.Query(background, "EXPLAIN "+sql, args...)
		require.NoError(t, err)
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		for _, node := range plan {
			require.NotContains(t, node, "Seq Scan", "%+v:\n%s", q, strings.Join(plan, "\n"))
			require.NotContains(t, node, "Bitmap", "%+v:\n%s", q, strings.Join(plan, "\n"))
		}
		q.Limit = 50
		quick(t, q, func() error {
			for _, err := range db.Updates(t.Context(), q) {
				if err != nil && !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrShort) { // copies are not readable
					return err
				}
			}
			return nil
		})
	}
	for _, q := range []store.DeviceQuery{
		{}, {Registered: true, After: "ep5"}, {Versions: []string{"9"}}, {Versions: []string{"9", "1.0"}}, {Labels: map[string]string{"site": "oslo"}},
		{Model: "S1", Versions: []string{"9"}},
	} {
		q.Limit = 50
		quick(t, q, func() error {
			for _, err := range db.Devices(t.Context(), q) {
				if err != nil && !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrShort) { // copies are not readable
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, db.Close())
}

// quick calls a page until it takes less than 50 ms: on a busy machine that may take a while. One
// that reads all records takes longer each time.
func quick(t *testing.T, q any, page func() error) {
	t.Helper()
	var took time.Duration
	require.Eventually(t, func() bool {
		began := time.Now()
		require.NoError(t, page())
		took = time.Since(began)
		return took < 50*time.Millisecond
	}, 20*time.Second, time.Millisecond, "%+v takes %v", q, &took)
	t.Logf("%+v: %v", q, took)
}
