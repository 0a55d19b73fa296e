package device

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/disk"
)

// inspectAnything accepts every package as version 2.0.
func inspectAnything(io.Reader, int64) (PackageInfo, error) { return PackageInfo{Version: "2.0"}, nil }

// plainSlots opens slots without a key.
func plainSlots(t testing.TB, dir string, config SlotConfig, d disk.Files) *Slots {
	t.Helper()
	config.Inspect, config.Version = inspectTest, "1.0"
	s, err := openSlots(dir, config, d)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// install installs a version in the free slot and starts it for the first time.
func install(t testing.TB, s *Slots, version string) BootTarget {
	t.Helper()
	image := testImage(version, 100)
	_, err := stage(s, image, 0, len(image), 64)
	require.NoError(t, err)
	_, err = s.Verify(t.Context())
	require.NoError(t, err)
	restart, err := s.Apply(t.Context())
	require.NoError(t, err)
	require.True(t, restart)
	boot, err := s.Boot()
	require.NoError(t, err)
	require.Equal(t, version, boot.Version)
	return boot
}

// TestSlotsStatus checks Status during two updates, one of which is rolled back.
func TestSlotsStatus(t *testing.T) {
	dir := t.TempDir()
	s := plainSlots(t, dir, SlotConfig{}, disk.Files{})
	status := func() InstallerStatus {
		t.Helper()
		status, err := s.Status(t.Context())
		require.NoError(t, err)
		return status
	}
	require.Equal(t, InstallerStatus{}, status())
	image := testImage("1.1", 100)
	_, err := stage(s, image, 0, 60, 60)
	require.NoError(t, err)
	require.Equal(t, InstallerStatus{Staged: 60}, status())
	boot := install(t, s, "1.1")
	require.Equal(t, BootTarget{Slot: "a", Image: s.path("a", "image"), Version: "1.1", Trial: true, Starts: 1, MaxStarts: 3}, boot)
	require.Equal(t, InstallerStatus{Install: fsm.InstallPending, Staged: 100, Verified: true}, status())
	require.Equal(t, "1.1", s.Version())

	// A program counts as the old version if it was started as that, or if it names its slot.
	require.NoError(t, s.Close())
	s = plainSlots(t, dir, SlotConfig{}, disk.Files{})
	require.Equal(t, "1.0", s.Version())
	require.Equal(t, fsm.InstallUnknown, status().Install, "applied, but not started")
	require.Error(t, s.Confirm(t.Context()), "the old version does not confirm the new one")
	require.NoError(t, s.Close())
	s = plainSlots(t, dir, SlotConfig{Slot: "a"}, disk.Files{})
	require.Equal(t, "1.1", s.Version())
	require.Equal(t, fsm.InstallPending, status().Install)
	require.NoError(t, s.Confirm(t.Context()))
	require.NoError(t, s.Confirm(t.Context()), "it stays")
	require.Equal(t, InstallerStatus{Install: fsm.InstallSucceeded}, status())
	require.NoError(t, s.Rollback(t.Context()), "there is no trial any more")
	require.Equal(t, fsm.InstallSucceeded, status().Install)

	// The outcome is kept until the next package.
	w, err := s.OpenPackage(t.Context(), 0, -1)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Equal(t, InstallerStatus{}, status())
	require.Equal(t, "b", install(t, s, "1.2").Slot)
	require.NoError(t, s.Rollback(t.Context()))
	require.Equal(t, fsm.InstallFailed, status().Install)
	_, err = s.OpenPackage(t.Context(), 0, -1)
	require.ErrorIs(t, err, ErrUpdateFailed, "what runs is not overwritten")
	boot, err = s.Boot()
	require.NoError(t, err)
	require.Equal(t, BootTarget{Slot: "a", Image: s.path("a", "image"), Version: "1.1"}, boot)
	require.Equal(t, fsm.InstallFailed, status().Install)
	w, err = s.OpenPackage(t.Context(), 0, -1)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Equal(t, InstallerStatus{}, status())
}

// TestSlotsMaxStarts: a version on trial starts MaxStarts times, three by default.
func TestSlotsMaxStarts(t *testing.T) {
	for given, want := range map[int]int{0: 3, 1: 1, 5: 5} {
		s := plainSlots(t, t.TempDir(), SlotConfig{MaxStarts: given}, disk.Files{})
		boot := install(t, s, "1.1")
		for n := 1; boot.Trial; n++ {
			require.Equal(t, BootTarget{Slot: "a", Image: s.path("a", "image"), Version: "1.1", Trial: true, Starts: n, MaxStarts: want}, boot)
			require.LessOrEqual(t, n, want)
			var err error
			boot, err = s.Boot()
			require.NoError(t, err)
			if !boot.Trial {
				require.Equal(t, want, n)
			}
		}
		require.Equal(t, "1.0", boot.Version)
	}
}

// TestSlotsInspect: Size and Digest are filled in if Inspect leaves them out.
func TestSlotsInspect(t *testing.T) {
	image := testImage("1.1", 100)
	sum := sha256.Sum256(image)
	s := plainSlots(t, t.TempDir(), SlotConfig{}, disk.Files{})
	_, err := stage(s, image, 0, len(image), 64)
	require.NoError(t, err)
	info, err := s.Verify(t.Context())
	require.NoError(t, err)
	require.Equal(t, PackageInfo{Name: "test", Version: "1.1", Size: 100, Digest: "sha256:" + hex.EncodeToString(sum[:])}, info)
	s.config.Inspect = func(in io.Reader, size int64) (PackageInfo, error) {
		got, err := io.ReadAll(in)
		require.NoError(t, err)
		require.Equal(t, image, got, "from its first byte to its last")
		require.EqualValues(t, 100, size)
		return PackageInfo{Version: "1.1", Digest: "crc:1", Size: 7}, nil
	}
	info, err = s.Verify(t.Context())
	require.NoError(t, err)
	require.Equal(t, PackageInfo{Version: "1.1", Size: 100, Digest: "crc:1"}, info)
	s.config.Inspect = func(io.Reader, int64) (PackageInfo, error) { return PackageInfo{}, errors.New("for another device") }
	_, err = s.Verify(t.Context())
	require.ErrorIs(t, err, ErrUnsupportedPackage)
	require.Equal(t, fsm.ResultUnsupFirmware, resultOf(err, -1))
	s.config.Inspect = func(io.Reader, int64) (PackageInfo, error) { return PackageInfo{}, ErrIntegrity }
	_, err = s.Verify(t.Context())
	require.Equal(t, fsm.ResultIntegrityFailed, resultOf(err, -1))
	require.NoError(t, s.Discard(t.Context()))
	_, err = s.Verify(t.Context())
	require.Equal(t, fsm.ResultUnsupFirmware, resultOf(err, -1), "there is none")
}

// TestSlotsAskForRoom: the slots check the free space at the start of a package and after each MiB,
// because packages may be larger than announced.
func TestSlotsAskForRoom(t *testing.T) {
	var ops []string
	s := plainSlots(t, t.TempDir(), SlotConfig{}, disk.Files{Hook: func(op string) error {
		if op == "free" || strings.Contains(op, stateFile) {
			ops = append(ops, op)
		}
		return nil
	}})
	w, err := s.OpenPackage(t.Context(), 0, 100)
	require.NoError(t, err)
	defer w.Close()
	require.Equal(t, []string{"free"}, ops, "nothing was there that has to be forgotten")
	piece := make([]byte, 64<<10)
	for n := 1; n <= 40; n++ {
		_, err := w.Write(piece)
		require.NoError(t, err)
		require.Len(t, ops, 1+n/16, "after %d pieces", n)
	}
}

// TestSlotsMaxSize takes an image of MaxSize bytes, and one of a byte more.
func TestSlotsMaxSize(t *testing.T) {
	for over := range 2 {
		s := plainSlots(t, t.TempDir(), SlotConfig{MaxSize: 1000}, disk.Files{})
		image := testImage("1.1", 1000+over)
		_, err := stage(s, image, 0, len(image), 10)
		if over == 0 {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, ErrNoStorage)
		}
		_, err = s.OpenPackage(t.Context(), 0, 100_000)
		require.ErrorIs(t, err, ErrNoStorage, "it is announced as too long")
	}
}

// TestSpare: the spare file exists from the start, is written again when it is incomplete, and is
// otherwise left unchanged.
func TestSpare(t *testing.T) {
	dir := t.TempDir()
	read := func() string {
		b, err := os.ReadFile(dir + "/spare")
		require.NoError(t, err)
		require.Len(t, b, 32<<10)
		return string(b)
	}
	s := plainSlots(t, dir, SlotConfig{}, disk.Files{})
	first := read()
	require.Less(t, strings.Count(first, "\x00"), 1<<10, "nothing that can be compressed")
	require.NoError(t, s.SaveState(t.Context(), []byte("record")))
	require.Equal(t, first, read())
	require.NoError(t, os.Truncate(dir+"/spare", 100))
	require.NoError(t, s.SaveState(t.Context(), []byte("record")))
	require.NotEqual(t, first[:100], read()[:100])
	record, err := s.LoadState(t.Context())
	require.NoError(t, err)
	require.Equal(t, "record", string(record))
	require.NoFileExists(t, dir+"/device.json.new")
	require.NoError(t, os.Remove(dir+"/device.json"))
	require.NoError(t, os.Mkdir(dir+"/device.json", 0o700))
	_, err = s.LoadState(t.Context())
	require.Error(t, err)
}

// TestStateFormat: a record says its format; one that does not has format 1. Another format is
// refused, and not changed.
func TestStateFormat(t *testing.T) {
	for _, test := range []struct{ record, err string }{
		{`{"state":"downloading","result":"default"}`, ""},
		{`{"format":1,"state":"downloading","result":"default"}`, ""},
		{`{"format":2,"state":"downloading","result":"default"}`, "device: the stored state has format 2, and this program reads format 1: start the program that wrote it"},
		{`{"format":2,"state":{"of":"another form"}}`, "has format 2"},
		{`{"format":0,"state":"downloading","result":"default"}`, "has format 0"},
		{`{"format":1,"state":{}}`, "is damaged"},
		{`{"format":"1"}`, "is damaged"},
		{`{"format":1`, "is damaged"},
	} {
		t.Run(test.record, func(t *testing.T) {
			slots := plainSlots(t, t.TempDir(), SlotConfig{}, disk.Files{})
			require.NoError(t, slots.SaveState(t.Context(), []byte(test.record)))
			d, err := New(slots, Config{})
			require.NoError(t, err)
			_, err = d.State(t.Context())
			record, loadErr := slots.LoadState(t.Context())
			require.NoError(t, loadErr)
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				require.Equal(t, test.record, string(record))
				return
			}
			require.NoError(t, err)
			require.Contains(t, string(record), `{"format":1,`)
		})
	}
}
