package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	rollout "github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/pgtest"
	"github.com/otago-iot/otago/store"
)

// TestCopy copies a file into PostgreSQL, twice, and back into another file.
func TestCopy(t *testing.T) {
	data := t.TempDir()
	url := pgtest.Start(t, "fsync=off").URL()
	fillForCopy(t, data)
	out, err := command(t, "copy", "-data", data, "bolt:"+filepath.Join(data, "ota.db"), url)
	require.NoError(t, err)
	require.Contains(t, out, "1 images are the same")
	require.Contains(t, out, "30 devices are the same")
	require.Contains(t, out, "60 updates are the same")
	require.Contains(t, out, "120 journal lines are the same")
	require.Contains(t, out, "1 rollouts are the same")
	require.Contains(t, out, "700 members of rollouts are the same")
	again, err := command(t, "copy", "-data", data, "bolt:"+filepath.Join(data, "ota.db"), url)
	require.NoError(t, err)
	require.Equal(t, out, again)

	other := t.TempDir()
	back, err := command(t, "copy", "-data", other, url, "bolt:"+filepath.Join(other, "ota.db"))
	require.NoError(t, err)
	require.Equal(t, out, back)

	// A record that differs is found.
	db, err := openStore(t.Context(), storePlace{data: other}, nil)
	require.NoError(t, err)
	u, err := db.Update(t.Context(), "a05")
	require.NoError(t, err)
	u.Machine.Bytes++
	_, err = db.Commit(t.Context(), store.ReplaceUpdate{Update: u})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	_, err = command(t, "copy", "-data", other, url, "bolt:"+filepath.Join(other, "ota.db"))
	require.ErrorContains(t, err, "updates: there are 60, and 60 in the copy, or they differ")
	_, err = command(t, "copy", "-data", other, url)
	require.ErrorContains(t, err, "two places")
}

func fillForCopy(t *testing.T, data string) {
	db, err := openStore(t.Context(), storePlace{data: data}, nil)
	require.NoError(t, err)
	commit := func(changes ...store.Change) {
		t.Helper()
		_, err := db.Commit(t.Context(), changes...)
		require.NoError(t, err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	bytesOf := bytes.Repeat([]byte("firmware"), 100_000)
	digest := sha256.Sum256(bytesOf)
	name := hex.EncodeToString(digest[:])
	blobs, err := firmware.OpenFolder(filepath.Join(data, "images"))
	require.NoError(t, err)
	require.NoError(t, blobs.Put(t.Context(), name, io.NewSectionReader(bytes.NewReader(bytesOf), 0, int64(len(bytesOf)))))
	commit(store.CreateImage{Image: store.Image{ID: "aa", Name: "demo", Version: "2", Size: int64(len(bytesOf)), SHA256: name, Created: now}},
		store.CreateImage{Image: store.Image{ID: "bb", Name: "demo", Version: "1", Size: 1, SHA256: "ff", Created: now}})
	for n := range 30 {
		ep := fmt.Sprintf("ep%02d", n)
		commit(store.PutRegistration{Endpoint: ep, Registration: store.RegistrationRecord{ID: "0a", Address: "192.0.2.1:5683", Secured: n%2 == 0, Registered: now, LastSeen: now}},
			store.PutFirmware{Endpoint: ep, Firmware: store.Firmware{Version: "1", State: new(fsm.Idle)}},
			store.PutLabels{Endpoint: ep, Labels: map[string]string{"n": fmt.Sprint(n)}}, store.PutFacts{Endpoint: ep, Facts: store.Facts{Model: "m"}})
		for k, image := range []string{"bb", "aa"} {
			u := store.Update{
				ID: fmt.Sprintf("%c%02d", 'a'+k, n), Endpoint: ep, Image: image, Key: fmt.Sprint(k, n), Labels: map[string]string{"k": fmt.Sprint(k)},
				Machine: fsm.NewUpdate(fsm.Plan{Target: "2", Size: 9}, now), Created: now, Changed: now,
			}
			if k == 0 {
				u.Machine.Phase, u.Machine.Outcome = fsm.PhaseEnded, fsm.OutcomeFailed
			}
			commit(store.CreateUpdate{Update: u}, store.AppendEvents{Events: []store.Event{
				{Update: u.ID, Endpoint: ep, Time: now, Name: "created"}, {Update: u.ID, Endpoint: ep, Time: now, Name: "read", Detail: ep},
			}})
		}
	}
	commit(store.DeleteImage{ID: "bb"})
	var members []store.Member
	for n := range 700 {
		members = append(members, store.Member{Endpoint: fmt.Sprint("m", n), Machine: rollout.Member{State: rollout.MemberWaiting}})
	}
	r := store.Rollout{ID: "r", Image: "aa", Machine: rollout.NewRollout(rollout.Plan{Stages: []rollout.Stage{{Share: 1}}, Concurrency: 1}, now), Created: now}
	require.NoError(t, db.CommitRollouts(t.Context(), store.CreateRollout{Rollout: r}, store.PutMembers{Rollout: "r", Members: members},
		store.AppendRolloutEvents{Rollout: "r", Events: []store.RolloutEvent{{Name: "created", Time: now}, {Name: "started", Time: now, Actor: "kim"}}}))
	require.NoError(t, db.Close())
}
