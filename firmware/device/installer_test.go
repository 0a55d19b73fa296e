package device_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/bundle"
	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/firmware/device/devicetest"
)

// TestSlotsConform runs the suite for installers on Slots.
func TestSlotsConform(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	devicetest.RunInstaller(t, devicetest.InstallerConfig{
		Version: "1.0.0", TooLarge: 200_000,
		Start: func(t testing.TB, dir string) devicetest.Start {
			slots, err := device.OpenSlots(dir, device.SlotConfig{Trust: public, Version: "1.0.0", MaxSize: 100_000})
			require.NoError(t, err)
			boot, err := slots.Boot()
			require.NoError(t, err)
			return devicetest.Start{Installer: slots, Version: boot.Version, Crash: func() { slots.Close() }}
		},
		Package: func(t testing.TB, version string, size int) []byte {
			var signed bytes.Buffer
			manifest := bundle.Manifest{Name: "sensor", Version: version}
			require.NoError(t, bundle.Sign(&signed, private, manifest, bytes.NewReader(make([]byte, size))))
			return signed.Bytes()
		},
	})
}

// TestExampleConforms runs the suite for installers on the example.
func TestExampleConforms(t *testing.T) {
	devicetest.RunInstaller(t, devicetest.InstallerConfig{
		Version: "1.0.0", TooLarge: capacity + 1,
		Start: func(t testing.TB, dir string) devicetest.Start {
			p, err := startPartitions(dir)
			require.NoError(t, err)
			return devicetest.Start{Installer: p, Version: p.version()}
		},
		Package: func(_ testing.TB, version string, size int) []byte {
			pkg := append([]byte(version+"\n"), make([]byte, size)...)
			sum := sha256.Sum256(pkg)
			return append(pkg, sum[:]...)
		},
	})
}
