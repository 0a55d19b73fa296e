package firmware

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/bundle"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
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

func bundleSlots(t testing.TB, dir string, d disk) *Slots {
	t.Helper()
	public, _ := testKey()
	s, err := openSlots(dir, SlotConfig{Trust: public, Version: "1.0"}, d)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// stage writes a package from an offset on, in pieces.
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

func TestSlotsRefuseToTakeAnything(t *testing.T) {
	_, err := OpenSlots(t.TempDir(), SlotConfig{})
	require.ErrorContains(t, err, "trust")
	_, err = OpenSlots(t.TempDir(), SlotConfig{Trust: []byte("short")})
	require.ErrorContains(t, err, "Ed25519")
}

func TestSlotsLock(t *testing.T) {
	dir := t.TempDir()
	s := bundleSlots(t, dir, disk{})
	public, _ := testKey()
	_, err := OpenSlots(dir, SlotConfig{Trust: public})
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, s.Close())
	bundleSlots(t, dir, disk{})
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

// TestSlotsResumeAtEveryByte stops and goes on at each byte of a bundle, header included.
func TestSlotsResumeAtEveryByte(t *testing.T) {
	image := []byte("a small image\n")
	pkg := testBundle(t, "1.1", image)
	dir := t.TempDir()
	for cut := range pkg {
		s := bundleSlots(t, dir, disk{})
		require.NoError(t, s.Discard(t.Context()))
		kept, err := stage(s, pkg, 0, cut, 7)
		require.NoError(t, err)
		if header := len(pkg) - len(image); cut < header {
			require.Zero(t, kept)
		} else {
			require.EqualValues(t, cut, kept)
		}
		require.NoError(t, s.Close())

		s = bundleSlots(t, dir, disk{})
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
	_, foreign, err := bundle.GenerateKey()
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
			s := bundleSlots(t, t.TempDir(), disk{})
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
	s := bundleSlots(t, t.TempDir(), disk{})
	_, err := s.OpenPackage(t.Context(), 0, 1<<60)
	require.ErrorIs(t, err, ErrNoStorage)
}

var errPower = errors.New("power failed")

// power is a supply that fails: it lets so many operations of the disk pass, and none after them.
type power struct {
	mu     sync.Mutex
	left   int
	failed string // the operation that was the first not to happen
}

func (p *power) hook(op string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left--; p.left >= 0 {
		return nil
	}
	p.failed = cmp.Or(p.failed, op)
	return errPower
}

func (p *power) off() (at string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// TestUpdateSurvivesPowerFailure has the power fail at each single step on the disk of a whole update, by pull and by push,
// until one run needs no more steps than it has. Whatever the step, the device that starts again ends with the new version
// and Result 1, told once, or, if a push was cut off, idle with Result 4 and ready for the next.
func TestUpdateSurvivesPowerFailure(t *testing.T) {
	image := bytes.Repeat([]byte("new firmware\n"), 1000)
	pkg := testBundle(t, "1.1", image)
	server := serve(t, pkg)
	public, _ := testKey()
	for _, delivery := range []fsm.Delivery{fsm.DeliveryPull, fsm.DeliveryPush} {
		t.Run(delivery.String(), func(t *testing.T) {
			for n := 0; ; n++ {
				r := newRig(t)
				r.slots = SlotConfig{Trust: public, Version: "1.0"}
				supply := &power{left: n}
				r.hook = supply.hook
				err := r.update(delivery, server.URL+"/fw", pkg, supply)
				r.stop()
				failed := supply.off()
				if failed == "" {
					require.NoError(t, err)
					require.Equal(t, "1.1", r.boot.Version)
					t.Logf("%d steps", n)
					return
				}
				r.hook = nil
				at := fmt.Sprintf("power failed at step %d, %s", n, failed)
				require.NoError(t, r.update(delivery, server.URL+"/fw", pkg, &power{}), at)
				require.Equal(t, "1.1", r.boot.Version, at)
				got, err := os.ReadFile(r.boot.Image)
				require.NoError(t, err, at)
				require.True(t, bytes.Equal(image, got), at)
				r.stop()
				require.NoError(t, r.start(), at)
				require.False(t, r.boot.Trial, at)
				r.wait(fsm.Idle, fsm.ResultSuccess)
				r.stop()
			}
		})
	}
}

// update does what a server would, from whatever state the device is found in, until it has the new version. With a hook
// that fails it ends with its error at the latest when the device has nothing left to do.
func (r *rig) update(delivery fsm.Delivery, uri string, pkg []byte, supply *power) error {
	for range 10 {
		if r.open == nil {
			if err := r.start(); err != nil {
				return err
			}
		}
		o, err := r.settled(supply)
		if err != nil {
			return err
		}
		switch {
		case o.State == fsm.Idle && o.Result == fsm.ResultSuccess:
			return nil
		case o.State == fsm.Idle && (o.Result == fsm.ResultDefault || o.Result == fsm.ResultConnectionLost):
			if delivery == fsm.DeliveryPush {
				err = r.push(pkg, 1024)
			} else {
				err = r.write(resURI, lwm2m.String(uri))
			}
		case o.State == fsm.Downloaded && o.Result == fsm.ResultDefault:
			if err = r.execute(resUpdate); err == nil {
				if _, err = r.settled(supply); err == nil || errors.Is(err, ErrRestart) {
					err = nil
				}
			}
		default:
			return fmt.Errorf("state %s, result %s", o.State, o.Result)
		}
		if err != nil {
			return err
		}
	}
	return errors.New("no end")
}

// settled waits until the device waits for the server, or has ended: then its error, and it is stopped.
func (r *rig) settled(supply *power) (fsm.Object, error) {
	for {
		select {
		case err := <-r.ended:
			r.ended = nil
			r.stop()
			if errors.Is(err, ErrRestart) {
				err = r.start()
			}
			if err != nil {
				return fsm.Object{}, err
			}
		default:
		}
		o, err := r.device.State(context.Background())
		if err != nil {
			return o, err
		}
		if o.State == fsm.Idle || o.State == fsm.Downloaded {
			return o, nil
		}
		if supply.off() != "" {
			return o, errPower // nothing will move any more
		}
		select {
		case <-r.client.change:
		case err := <-r.ended:
			r.ended <- err
		case <-time.After(2 * time.Millisecond):
		}
	}
}
