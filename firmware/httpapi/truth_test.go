package httpapi_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/bolt"
	"github.com/otago-iot/otago/store/memory"
)

// An ending is one end of an update in the machine's truth table.
type ending struct {
	outcome fsm.Outcome
	result  fsm.Result
	reason  fsm.Reason
}

func endings(t *testing.T) []ending {
	t.Helper()
	table, err := os.ReadFile("../fsm/testdata/truth_table.golden")
	require.NoError(t, err)
	var all []ending
	for _, m := range regexp.MustCompile(`\b([A-Z_]+) \((\d+)\), ([a-z_]+)`).FindAllStringSubmatch(string(table), -1) {
		e := ending{reason: fsm.Reason(m[3])}
		require.NoError(t, e.outcome.UnmarshalText([]byte(m[1])))
		result, err := strconv.Atoi(m[2])
		require.NoError(t, err)
		e.result = fsm.Result(result)
		if !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	return all
}

// TestTruthTable stores every ending of the truth table, in each store, and reads it through the
// API: outcome, result and reason are the same, the state is idle, and a list finds the update by
// its outcome.
func TestTruthTable(t *testing.T) {
	all := endings(t)
	require.Greater(t, len(all), 10)
	for name, open := range map[string]func() (store.Store, error){
		"memory": func() (store.Store, error) { return memory.New(), nil },
		"bolt":   func() (store.Store, error) { return bolt.Open(filepath.Join(t.TempDir(), "ota.db"), bolt.Config{}) },
	} {
		t.Run(name, func(t *testing.T) {
			db, err := open()
			require.NoError(t, err)
			defer db.Close()
			s := mountOn(t, db, httpapi.AllowAll, httpapi.Config{}, func(h http.Handler) http.Handler { return h })
			image := s.image("1.1.0")
			for i, e := range all {
				now := time.Now()
				_, err := db.Commit(t.Context(), store.CreateUpdate{Update: store.Update{
					ID: fmt.Sprintf("%026d", i), Endpoint: "dev", Image: image, Created: now, Changed: now,
					Machine: fsm.Update{
						Phase: fsm.PhaseEnded, Outcome: e.outcome, Result: e.result, Reported: e.result, Reason: e.reason,
						Created: now, Ended: now,
					},
				}})
				require.NoError(t, err, "%v", e)
			}
			type view struct {
				ID, Phase, State, Outcome, Reason string
				Result                            struct {
					Code int
					Name string
				}
				Ended, Updated *time.Time
			}
			for i, e := range all {
				id := fmt.Sprintf("%026d", i)
				got := decode[view](t, s.get("/api/v1/updates/"+id))
				require.Equal(t, string(e.outcome), got.Outcome)
				require.Equal(t, int(e.result), got.Result.Code)
				require.Equal(t, e.result.String(), got.Result.Name)
				require.NotEqual(t, "default", got.Result.Name, "it has ended")
				require.Equal(t, string(e.reason), got.Reason)
				require.Equal(t, "idle", got.State)
				require.Equal(t, "ended", got.Phase)
				require.NotNil(t, got.Ended)
				require.False(t, got.Ended.After(*got.Updated), "%s %s", got.Ended, got.Updated)
				found := s.get("/api/v1/updates?limit=1000&outcome=" + got.Outcome)
				require.True(t, strings.Contains(string(found.body), id), "%v", e)
			}
			require.NotContains(t, string(s.get("/api/v1/updates?outcome=").body), `"id"`, "none is active")
		})
	}
}
