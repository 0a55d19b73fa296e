package device

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/disk"
)

// TestSlotsModel makes random calls, some out of order, with power failures between them, and
// compares the slots with a model. A verified version starts, byte for byte, or the one that the
// device was made with; a confirmed version stays until another is confirmed; a version on trial
// starts MaxStarts times.
func TestSlotsModel(t *testing.T) {
	runs := 60
	if testing.Short() {
		runs = 10
	}
	for seed := range uint64(runs) {
		m := &slotsModel{
			t: t, rand: rand.New(rand.NewPCG(seed, 0)), dir: t.TempDir(), contents: map[string][]byte{}, verified: map[string]bool{},
			confirmed: "0", running: "0",
		}
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("seed %d: %v", seed, m.did)
			}
		})
		m.open()
		for range 60 {
			m.step()
		}
		m.slots.Close()
	}
}

type slotsModel struct {
	t        *testing.T
	rand     *rand.Rand
	dir      string
	slots    *Slots
	failing  bool // the power fails at one of the next operations
	contents map[string][]byte
	verified map[string]bool
	did      []string

	confirmed string
	running   string
}

func (m *slotsModel) open() {
	left := -1
	if m.failing = m.rand.IntN(4) == 0; m.failing {
		left = m.rand.IntN(30)
	}
	hook := func(string) error {
		if left--; m.failing && left < 0 {
			return errPower
		}
		return nil
	}
	public, _ := testKey()
	var err error
	m.slots, err = openSlots(m.dir, SlotConfig{Trust: public, Version: "0"}, disk.Files{Hook: hook})
	require.NoError(m.t, err)
}

func (m *slotsModel) step() {
	ctx := m.t.Context()
	actions := []struct {
		name string
		do   func() error
	}{
		{"stage", func() error {
			version := fmt.Sprintf("%d", len(m.contents)+1)
			m.contents[version] = testImage(version, m.rand.IntN(9000))
			pkg := testBundle(m.t, version, m.contents[version])
			_, err := stage(m.slots, pkg, 0, len(pkg), 1000)
			return err
		}},
		{"verify", func() error {
			info, err := m.slots.Verify(ctx)
			if err == nil {
				m.verified[info.Version] = true
			}
			return err
		}},
		{"apply", func() error { _, err := m.slots.Apply(ctx); return err }},
		{"discard", func() error { return m.slots.Discard(ctx) }},
		{"rollback", func() error { return m.slots.Rollback(ctx) }},
		{"confirm", func() error {
			err := m.slots.Confirm(ctx)
			if err == nil {
				m.confirmed = m.running
			}
			return err
		}},
		{"boot", m.boot},
		{"reopen", func() error { m.slots.Close(); m.open(); return m.boot() }},
	}
	a := actions[m.rand.IntN(len(actions))]
	m.did = append(m.did, a.name)
	if err := a.do(); err == nil || m.slots.disk.Op("probe") == nil {
		return
	}
	// The power has failed: the call may or may not have had its effect, and the device starts
	// again.
	m.did = append(m.did, "power")
	before := m.running
	m.slots.Close()
	m.open()
	m.failing = false
	status, err := m.slots.Status(ctx)
	require.NoError(m.t, err)
	if a.name == "confirm" && status.Install == fsm.InstallSucceeded {
		m.confirmed = before
	}
	require.NoError(m.t, m.boot())
}

// boot starts the program that is due and checks it.
func (m *slotsModel) boot() error {
	boot, err := m.slots.Boot()
	if err != nil {
		return err
	}
	m.running = boot.Version
	m.did = append(m.did, fmt.Sprintf("start %s %v", boot.Version, boot.Trial))
	if boot.Trial {
		require.LessOrEqual(m.t, boot.Starts, 3)
	} else {
		require.Equal(m.t, m.confirmed, boot.Version)
	}
	if boot.Image == "" {
		require.Equal(m.t, "0", boot.Version)
		return nil
	}
	require.True(m.t, m.verified[boot.Version], "%s was never verified", boot.Version)
	got, err := os.ReadFile(boot.Image)
	require.NoError(m.t, err)
	require.True(m.t, bytes.Equal(m.contents[boot.Version], got), "%s is not what it was", boot.Version)
	return nil
}
