package device

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/disk"
	"github.com/otago-iot/otago/internal/disk/disktest"
)

// A slotsPart is a step of TestSlotsLoseWhatIsNotSynced, with what must hold after it.
type slotsPart struct {
	name string
	do   func(s *Slots) error

	boots    string // the version that the next Boot starts
	record   string // what LoadState returns
	version  string // of the package in the free slot
	synced   int64  // number of its bytes that are safe
	verified bool
}

// TestSlotsLoseWhatIsNotSynced lets the power fail between any two disk operations of three
// updates. The file system keeps or loses each file and name that was not synced. What was reported
// as done is still there; a verified version starts, byte for byte; a package can be resumed from
// the offset that Sync reported; and another package can always be installed.
func TestSlotsLoseWhatIsNotSynced(t *testing.T) {
	public, _ := testKey()
	for name, config := range map[string]SlotConfig{"signed": {Trust: public}, "unsigned": {Inspect: inspectTest}} {
		t.Run(name, func(t *testing.T) {
			config.Version = "1.0"
			testSlotsLose(t, config)
		})
	}
}

func testSlotsLose(t *testing.T, config SlotConfig) {
	most := 60
	if testing.Short() {
		most = 10
	}
	dir := filepath.Join(t.TempDir(), "device")
	model := &disktest.Model{Root: filepath.Dir(dir)}
	packages, images := map[string][]byte{}, map[string][]byte{}
	for i, version := range []string{"1.1", "1.2", "1.3", "1.4", "9.9"} {
		images[version] = testImage(version, 3000-400*i)
		if packages[version] = images[version]; config.Trust != nil {
			packages[version] = testBundle(t, version, images[version])
		}
	}
	take := func(version string, from, to int) func(*Slots) error {
		return func(s *Slots) error {
			pkg := packages[version]
			if to == 0 {
				to = len(pkg)
			}
			_, err := stage(s, pkg, from, to, 700)
			return err
		}
	}
	verify := func(s *Slots) error { _, err := s.Verify(t.Context()); return err }
	apply := func(s *Slots) error { _, err := s.Apply(t.Context()); return err }
	boot := func(s *Slots) error { _, err := s.Boot(); return err }
	whole := func(version string) int64 { return int64(len(packages[version])) }
	save := func(record string) func(*Slots) error {
		return func(s *Slots) error { return s.SaveState(t.Context(), []byte(record)) }
	}
	parts := []slotsPart{
		{name: "open", do: func(*Slots) error { return nil }, boots: "1.0"},
		{name: "save", do: save("one"), boots: "1.0", record: "one"},
		{name: "take half of 1.1", do: take("1.1", 0, 1500), boots: "1.0", record: "one", version: "1.1", synced: 1500},
		{name: "take the rest of 1.1", do: take("1.1", 1500, 0), boots: "1.0", record: "one", version: "1.1", synced: whole("1.1")},
		{name: "verify 1.1", do: verify, boots: "1.0", record: "one", version: "1.1", synced: whole("1.1"), verified: true},
		{name: "save again", do: save("two"), boots: "1.0", record: "two", version: "1.1", synced: whole("1.1"), verified: true},
		{name: "apply 1.1", do: apply, boots: "1.1", record: "two"},
		{name: "start 1.1", do: boot, boots: "1.1", record: "two"},
		{name: "confirm 1.1", do: func(s *Slots) error { return s.Confirm(t.Context()) }, boots: "1.1", record: "two"},
		{name: "take 1.2", do: take("1.2", 0, 0), boots: "1.1", record: "two", version: "1.2", synced: whole("1.2")},
		{name: "verify 1.2", do: verify, boots: "1.1", record: "two", version: "1.2", synced: whole("1.2"), verified: true},
		{name: "apply 1.2", do: apply, boots: "1.2", record: "two"},
		{name: "start 1.2", do: boot, boots: "1.2", record: "two"},
		{name: "start 1.2 again", do: boot, boots: "1.2", record: "two"},
		{name: "start 1.2 a third time", do: boot, boots: "1.1", record: "two"},
		{name: "go back", do: boot, boots: "1.1", record: "two"},
		{name: "take 1.3 over it", do: take("1.3", 0, 1200), boots: "1.1", record: "two", version: "1.3", synced: 1200},
		{name: "discard it", do: func(s *Slots) error { return s.Discard(t.Context()) }, boots: "1.1", record: "two"},
		{name: "take 1.4", do: take("1.4", 0, 0), boots: "1.1", record: "two", version: "1.4", synced: whole("1.4")},
		{name: "verify 1.4", do: verify, boots: "1.1", record: "two", version: "1.4", synced: whole("1.4"), verified: true},
		{name: "discard 1.4", do: func(s *Slots) error { return s.Discard(t.Context()) }, boots: "1.1", record: "two"},
		{name: "take 1.2 again", do: take("1.2", 0, 0), boots: "1.1", record: "two", version: "1.2", synced: whole("1.2")},
		{name: "verify 1.2 again", do: verify, boots: "1.1", record: "two", version: "1.2", synced: whole("1.2"), verified: true},
		{name: "take 1.3 over that", do: take("1.3", 0, 0), boots: "1.1", record: "two", version: "1.3", synced: whole("1.3")},
		{name: "verify 1.3", do: verify, boots: "1.1", record: "two", version: "1.3", synced: whole("1.3"), verified: true},
		{name: "apply 1.3", do: apply, boots: "1.3", record: "two"},
		{name: "start 1.3", do: boot, boots: "1.3", record: "two"},
		{name: "roll back", do: func(s *Slots) error { return s.Rollback(t.Context()) }, boots: "1.1", record: "two"},
	}
	s, err := openSlots(dir, config, disk.Files{Done: model.Made})
	require.NoError(t, err)
	var ends []int // steps at the end of each part
	for _, part := range parts {
		require.NoError(t, part.do(s), part.name)
		ends = append(ends, model.Count())
	}
	require.NoError(t, s.Close())

	checked, seen, base := 0, map[string]bool{}, disktest.MemoryDir(t)
	for n := range model.Count() + 1 {
		// done is the last step that has returned, and doing the one that the power failure
		// interrupts, if there is one.
		done := -1
		for done+1 < len(ends) && ends[done+1] <= n {
			done++
		}
		before := slotsPart{name: "nothing", boots: "1.0"}
		if done >= 0 {
			before = parts[done]
		}
		doing := before
		if done+1 < len(parts) && (done < 0 || n > ends[done]) {
			doing = parts[done+1]
		}
		for _, state := range model.States(n, most) {
			key := fmt.Sprint(before.name, doing.name, state)
			if seen[key] {
				continue
			}
			seen[key] = true
			checked++
			at := fmt.Sprintf("step %d, %s done, in %s:%s", n, before.name, doing.name, state.Sizes())
			root := filepath.Join(base, fmt.Sprint(checked))
			require.NoError(t, os.Mkdir(root, 0o700))
			state.Write(t, root)
			checkSlots(t, filepath.Join(root, "device"), config, before, doing, packages, images, at)
			require.NoError(t, os.RemoveAll(root))
		}
	}
	t.Logf("%d steps, %d states", model.Count(), checked)
}

// checkSlots starts the slots after a power failure.
func checkSlots(t *testing.T, dir string, config SlotConfig, before, doing slotsPart, packages, images map[string][]byte, at string) {
	ctx := context.Background()
	s, err := openSlots(dir, config, disk.Files{})
	require.NoError(t, err, at)
	defer s.Close()
	record, err := s.LoadState(ctx)
	require.NoError(t, err, at)
	require.Contains(t, []string{before.record, doing.record}, string(record), at)
	status, err := s.Status(ctx)
	require.NoError(t, err, at)
	if before.version != "" && before.version == doing.version {
		require.GreaterOrEqual(t, status.Staged, before.synced, at)
		require.False(t, before.verified && !status.Verified, at)
	}
	if free := s.state.free(); status.Verified {
		got, err := os.ReadFile(s.imagePath(free))
		require.NoError(t, err, at)
		require.True(t, slices.Equal(images[s.state.Slots[free].Version], got), "%s: what was verified is not there", at)
	}
	boot, err := s.Boot()
	require.NoError(t, err, at)
	require.Contains(t, []string{before.boots, doing.boots}, boot.Version, at)
	if boot.Image != "" {
		got, err := os.ReadFile(boot.Image)
		require.NoError(t, err, at)
		require.True(t, slices.Equal(images[boot.Version], got), "%s: what is started is not %s", at, boot.Version)
	}
	if boot.Trial {
		require.NoError(t, s.Rollback(ctx), at)
		boot, err = s.Boot()
		require.NoError(t, err, at)
		require.Contains(t, []string{"1.0", "1.1"}, boot.Version, at)
	}
	version, from := "9.9", int64(0)
	if before.version != "" && before.version == doing.version && !before.verified && !status.Verified {
		version, from = before.version, before.synced
	}
	pkg := packages[version]
	_, err = stage(s, pkg, int(from), len(pkg), 5000)
	require.NoError(t, err, at)
	info, err := s.Verify(ctx)
	require.NoError(t, err, at)
	require.Equal(t, version, info.Version, at)
	_, err = s.Apply(ctx)
	require.NoError(t, err, at)
	boot, err = s.Boot()
	require.NoError(t, err, at)
	require.Equal(t, version, boot.Version, at)
	got, err := os.ReadFile(boot.Image)
	require.NoError(t, err, at)
	require.True(t, slices.Equal(images[version], got), at)
}
