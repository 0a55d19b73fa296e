package rollout_test

import (
	"context"
	"fmt"
	"iter"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/firmware/rollout/rollouttest"
	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/bolt"
)

// counting counts the calls that rollouts make of their store.
type counting struct {
	rollouttest.Store
	calls atomic.Int64
}

func (c *counting) CommitRollouts(ctx context.Context, changes ...store.RolloutChange) error {
	c.calls.Add(1)
	return c.Store.CommitRollouts(ctx, changes...)
}

func (c *counting) Rollout(ctx context.Context, id string) (store.Rollout, error) {
	c.calls.Add(1)
	return c.Store.Rollout(ctx, id)
}

func (c *counting) RolloutList(ctx context.Context, q store.RolloutQuery) iter.Seq2[store.Rollout, error] {
	c.calls.Add(1)
	return c.Store.RolloutList(ctx, q)
}

func (c *counting) Member(ctx context.Context, rollout, endpoint string) (store.Member, error) {
	c.calls.Add(1)
	return c.Store.Member(ctx, rollout, endpoint)
}

func (c *counting) Members(ctx context.Context, q store.MemberQuery) iter.Seq2[store.Member, error] {
	c.calls.Add(1)
	return c.Store.Members(ctx, q)
}

func (c *counting) MembersOf(ctx context.Context, endpoints []string) iter.Seq2[store.Member, error] {
	c.calls.Add(1)
	return c.Store.MembersOf(ctx, endpoints)
}

func numbered(n int) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for i := range n {
			if !yield(fmt.Sprintf("numbered-%06d", i), nil) {
				return
			}
		}
	}
}

// TestCountsByTick: a rollout that has nothing to do makes as many calls of the store with 100,000
// members as with 1000, and keeps no memory of them.
func TestCountsByTick(t *testing.T) {
	idle := func(members int, paused bool) (calls int64) {
		inWorld(t, func(w *world) {
			w.fleet(2, nil) // devices that are heard all the time, and are no members
			c := &counting{Store: w.db}
			r := w.create(rollout.Request{Targets: numbered(members), Stages: oneThenAll()})
			if paused {
				_, err := w.all.Pause(w.ctx, r.ID, kim)
				require.NoError(t, err)
			}
			w.stop()
			w.store = c
			before := heap()
			w.start()
			time.Sleep(10 * time.Minute)
			require.Less(t, heap()-before, int64(4<<20), "a member that waits takes memory")
			c.calls.Store(0)
			time.Sleep(6 * time.Hour)
			calls = c.calls.Load()
		})
		return calls
	}
	crowd := 100_000
	if testkit.Race {
		crowd = 5000
	}
	few, many := idle(1000, false), idle(crowd, false)
	t.Logf("%d calls in six hours", many)
	require.Equal(t, few, many)
	require.Equal(t, idle(1000, true), idle(crowd, true))
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestManyMembers plans and creates 100,000 members on a disk, and logs how long that takes: it
// should be a second, and ten.
func TestManyMembers(t *testing.T) {
	if testing.Short() || testkit.Race {
		t.Skip("it takes a while")
	}
	const n = 100_000
	db, err := bolt.Open(filepath.Join(t.TempDir(), "db"), bolt.Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	images, err := firmware.OpenRepository(t.TempDir(), db, firmware.RepositoryConfig{})
	require.NoError(t, err)
	image, err := images.Add(t.Context(), store.Image{Name: "sensor", Version: newFW}, zeros(1000))
	require.NoError(t, err)
	var changes []store.Change
	for i := range n {
		endpoint := fmt.Sprintf("numbered-%06d", i)
		changes = append(changes,
			store.PutFirmware{Endpoint: endpoint, Firmware: store.Firmware{Version: []string{oldFW, newFW, "1.0.1", "2.0.0"}[i%4], Read: time.Now()}},
			store.PutLabels{Endpoint: endpoint, Labels: map[string]string{"ring": "a"}})
		if len(changes) == 5000 {
			_, err := db.Commit(t.Context(), changes...)
			require.NoError(t, err)
			changes = changes[:0]
		}
	}
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(db)})
	require.NoError(t, err)
	mgr, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{})
	require.NoError(t, err)
	all, err := rollout.NewManager(srv, mgr, db, rollout.Config{})
	require.NoError(t, err)

	for _, q := range []rollout.Request{
		{Image: image.ID, Select: &rollout.Selector{Labels: map[string]string{"ring": "a"}}},
		{Image: image.ID, Targets: numbered(n)},
	} {
		begun := time.Now()
		run, err := all.Plan(t.Context(), q)
		require.NoError(t, err)
		planned := time.Since(begun)
		require.Equal(t, n/2, run.Targets)
		require.Equal(t, []rollout.Tally{{Name: oldFW, Devices: n / 4}, {Name: "1.0.1", Devices: n / 4}}, bare(run.Versions))
		require.Equal(t, []rollout.Tally{{Name: "already_current", Devices: n / 4}, {Name: "not_comparable", Devices: n / 4}}, bare(run.Skipped))
		require.Equal(t, []int{1, 500, 5000, 50_000}, run.Stages)

		q.ID = run.ID
		begun = time.Now()
		r, err := all.Create(t.Context(), q)
		require.NoError(t, err)
		created := time.Since(begun)
		t.Logf("planned in %s, created in %s", planned, created)
		require.Equal(t, fsm.Counts{Waiting: n / 2, Skipped: n / 2}, r.Machine.Total)
	}
}

func bare(list []rollout.Tally) []rollout.Tally {
	for i := range list {
		list[i].Examples = nil
	}
	return list
}
