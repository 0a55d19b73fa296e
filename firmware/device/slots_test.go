package device

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/bundle"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/disk"
)

func testKey() (ed25519.PublicKey, ed25519.PrivateKey) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
	return private.Public().(ed25519.PublicKey), private
}

func testBundle(t testing.TB, version string, image []byte) []byte {
	t.Helper()
	_, private := testKey()
	var b bytes.Buffer
	require.NoError(t, bundle.Sign(&b, private, bundle.Manifest{Name: "test", Version: version}, newReader(image)))
	return b.Bytes()
}

func bundleSlots(t testing.TB, dir string, d disk.Files) *Slots {
	t.Helper()
	public, _ := testKey()
	s, err := openSlots(dir, SlotConfig{Trust: public, Version: "1.0"}, d)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// stage writes a package from an offset on in pieces.
func stage(s *Slots, pkg []byte, offset, end, piece int) (int64, error) {
	w, err := s.OpenPackage(context.Background(), int64(offset), int64(len(pkg)))
	if err != nil {
		return 0, err
	}
	defer w.Close()
	for part := range slicesOf(pkg[offset:end], piece) {
		if _, err := w.Write(part); err != nil {
			return 0, err
		}
	}
	return w.Sync()
}

func TestSlotsLock(t *testing.T) {
	dir := t.TempDir()
	s := bundleSlots(t, dir, disk.Files{})
	public, _ := testKey()
	_, err := OpenSlots(dir, SlotConfig{Trust: public})
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, s.Close())
	bundleSlots(t, dir, disk.Files{})
}

// TestSlotsModes: only the owner can read the slots.
func TestSlotsModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	dir := filepath.Join(t.TempDir(), "device")
	s := bundleSlots(t, dir, disk.Files{})
	pkg := testBundle(t, "1.1", []byte("image"))
	_, err := stage(s, pkg, 0, len(pkg), 100)
	require.NoError(t, err)
	_, err = s.Verify(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.SaveState(t.Context(), []byte("record")))
	found := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		require.Zero(t, info.Mode()&0o077, path)
		found++
		return nil
	}))
	require.Equal(t, 8, found, "the directory, a slot, its image and header, two records, lock and spare")
	info, err := os.Stat(s.imagePath(slotA))
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&0o100, "it can be started")
}

func TestSlotsDamagedState(t *testing.T) {
	for _, content := range []string{"", "{", `{"format":9}`, `{"confirmed":"../../etc"}`, `{"confirmed":"a","trial":"a"}`} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(dir+"/slots.json", []byte(content), 0o600))
		public, _ := testKey()
		_, err := OpenSlots(dir, SlotConfig{Trust: public})
		require.Error(t, err, content)
	}
}

// TestSlotsResumeAtEveryByte interrupts and resumes a bundle at each of its bytes.
func TestSlotsResumeAtEveryByte(t *testing.T) {
	image := []byte("a small image\n")
	pkg := testBundle(t, "1.1", image)
	dir := t.TempDir()
	for cut := range pkg {
		s := bundleSlots(t, dir, disk.Files{})
		require.NoError(t, s.Discard(t.Context()))
		kept, err := stage(s, pkg, 0, cut, 7)
		require.NoError(t, err)
		if header := len(pkg) - len(image); cut < header {
			require.Zero(t, kept)
		} else {
			require.EqualValues(t, cut, kept)
		}
		require.NoError(t, s.Close())

		s = bundleSlots(t, dir, disk.Files{})
		status, err := s.Status(t.Context())
		require.NoError(t, err)
		require.GreaterOrEqual(t, status.Staged, kept)
		kept, err = stage(s, pkg, int(kept), len(pkg), 1000)
		require.NoError(t, err)
		require.EqualValues(t, len(pkg), kept)
		info, err := s.Verify(t.Context())
		require.NoError(t, err)
		require.Equal(t, "1.1", info.Version)
		require.EqualValues(t, len(pkg), info.Size)
		got, err := os.ReadFile(s.imagePath(slotA))
		require.NoError(t, err)
		require.Equal(t, image, got)
		require.NoError(t, s.Close())
	}
}

func TestSlotsRefuseBundles(t *testing.T) {
	image := []byte("image")
	good := testBundle(t, "1.1", image)
	_, foreign, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	var other bytes.Buffer
	require.NoError(t, bundle.Sign(&other, foreign, bundle.Manifest{Name: "test", Version: "1.1"}, newReader(image)))
	damaged := bytes.Clone(good)
	damaged[len(damaged)-1] ^= 1
	tests := map[string]struct {
		pkg    []byte
		result fsm.Result
	}{
		"not a bundle": {[]byte("#!/bin/sh\n"), fsm.ResultUnsupFirmware},
		"empty":        {nil, fsm.ResultUnsupFirmware},
		"cut":          {good[:len(good)-1], fsm.ResultIntegrityFailed},
		"header only":  {good[:20], fsm.ResultUnsupFirmware},
		"longer":       {append(bytes.Clone(good), 0), fsm.ResultIntegrityFailed},
		"damaged":      {damaged, fsm.ResultIntegrityFailed},
		"foreign":      {other.Bytes(), fsm.ResultIntegrityFailed},
		"same version": {testBundle(t, "1.0", image), fsm.ResultUnsupFirmware},
		"old version":  {testBundle(t, "0.9", image), fsm.ResultUnsupFirmware},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := bundleSlots(t, t.TempDir(), disk.Files{})
			_, err := stage(s, tc.pkg, 0, len(tc.pkg), 4)
			if err == nil {
				_, err = s.Verify(t.Context())
			}
			require.Equal(t, tc.result, resultOf(err, -1), "%v", err)
			_, err = s.Apply(t.Context())
			require.ErrorIs(t, err, ErrIntegrity, "what is not verified is not installed")
		})
	}
}

func TestSlotsNoRoom(t *testing.T) {
	s := bundleSlots(t, t.TempDir(), disk.Files{})
	_, err := s.OpenPackage(t.Context(), 0, 1<<60)
	require.ErrorIs(t, err, ErrNoStorage)
}

// TestSlotsRoomRunsOut fills the disk while a package of unknown size is taken.
func TestSlotsRoomRunsOut(t *testing.T) {
	asked := 0
	s, err := openSlots(t.TempDir(), SlotConfig{Inspect: inspectTest}, disk.Files{Hook: func(op string) error {
		if op == "free" {
			if asked++; asked > 3 {
				return ErrNoStorage
			}
		}
		return nil
	}})
	require.NoError(t, err)
	defer s.Close()
	w, err := s.OpenPackage(t.Context(), 0, -1)
	require.NoError(t, err)
	defer w.Close()
	piece := make([]byte, 64<<10)
	for n := int64(0); err == nil; n += int64(len(piece)) {
		require.LessOrEqual(t, n, int64(4*reserve))
		_, err = w.Write(piece)
	}
	require.ErrorIs(t, err, ErrNoStorage)
}
