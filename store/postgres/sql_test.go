//go:build unix

package postgres_test

import (
	"fmt"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	rollout "github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/pgtest"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/postgres"
)

// TestQuestions asks the questions of doc/sql.md, in a database in which each has an answer.
func TestQuestions(t *testing.T) {
	pool, err := openPool(pgtest.Start(t, "fsync=off").URL())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	db, err := postgres.New(pool, postgres.Config{})
	require.NoError(t, err)
	fillFleet(t, db)

	text, err := os.ReadFile("../../doc/sql.md")
	require.NoError(t, err)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	var columns []string
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT array_agg(column_name::text) FROM information_schema.columns
		WHERE table_schema = 'otago' AND table_name = 'firmware_updates'`).Scan(&columns))
	require.Subset(t, columns, []string{
		"endpoint", "image", "version", "state", "result", "outcome", "reason", "phase", "waiting_for", "bytes", "created", "ended",
	})
	questions := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(questions), 10)
	for _, q := range questions {
		results, err := conn.Conn().PgConn().Exec(t.Context(), q[1]).ReadAll()
		require.NoError(t, err, q[1])
		for _, r := range results {
			require.False(t, r.CommandTag.Select() && len(r.Rows) == 0, "no answer to\n%s", q[1])
		}
	}
	var active string
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT string_agg(endpoint || ' ' || phase || ' ' || waiting_for, ',') FROM firmware_updates
		WHERE outcome IS NULL`).Scan(&active))
	require.Equal(t, "sensor-0001 transferring device to fetch the package", active)
	conn.Conn().Close(t.Context()) // it has another search_path
	require.NoError(t, db.Close())
}

func fillFleet(t *testing.T, db *postgres.Store) {
	now := time.Now()
	commit := func(changes ...store.Change) {
		t.Helper()
		_, err := db.Commit(t.Context(), changes...)
		require.NoError(t, err)
	}
	commit(store.CreateImage{Image: store.Image{ID: "2a", Name: "sensor", Version: "2.0", Size: 4096, SHA256: "aa", Created: now}})
	for n := range 4 {
		ep := fmt.Sprintf("sensor-%04d", n)
		u := store.Update{
			ID: fmt.Sprint("u", n), Endpoint: ep, Image: "2a", Created: now.Add(-time.Hour), Changed: now,
			Machine: fsm.NewUpdate(fsm.Plan{Target: "2.0", Size: 4096}, now),
		}
		m := &u.Machine
		switch n {
		case 0:
			m.Phase, m.Outcome, m.Result, m.Reason = fsm.PhaseEnded, fsm.OutcomeFailed, fsm.ResultNoStorage, "device"
		case 1:
			m.Phase, m.State, m.Bytes = fsm.PhaseTransferring, fsm.Downloading, 1024
			m.Wait = fsm.Wait{Reason: "device to fetch the package", Whose: fsm.WhoseDevice, Until: now.Add(time.Hour)}
		default:
			m.Phase, m.Outcome, m.Result = fsm.PhaseEnded, fsm.OutcomeSucceeded, fsm.ResultSuccess
		}
		r := store.RegistrationRecord{ID: "r", Address: "192.0.2.1:5683", Lifetime: 300 * time.Second, Registered: now, LastSeen: now.Add(-time.Duration(n) * 20 * time.Hour)}
		commit(store.PutRegistration{Endpoint: ep, Registration: r}, store.PutFirmware{Endpoint: ep, Firmware: store.Firmware{Version: "1.0"}},
			store.PutLabels{Endpoint: ep, Labels: map[string]string{"site": "oslo"}}, store.PutFacts{Endpoint: ep, Facts: store.Facts{Model: "S1"}},
			store.CreateUpdate{Update: u})
		for range 20 {
			commit(line(u, "created"))
		}
	}
	r := store.Rollout{ID: "r1", Name: "spring", Image: "2a", Machine: rollout.NewRollout(rollout.Plan{Stages: []rollout.Stage{{Share: 1}}, Concurrency: 1}, now), Created: now}
	require.NoError(t, db.CommitRollouts(t.Context(), store.CreateRollout{Rollout: r}, store.PutMembers{Rollout: "r1", Members: []store.Member{
		{Endpoint: "sensor-0001", Machine: rollout.Member{State: rollout.MemberActive, Place: rollout.PlaceTransferring, Update: "u1"}},
	}}))
}
