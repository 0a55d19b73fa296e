package bundle_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/bundle"
)

// BenchmarkVerify compares the verification of a bundle of 1 MiB with a mere digest of as many
// bytes.
func BenchmarkVerify(b *testing.B) {
	image := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	data := sign(b, testManifest, image)
	public, _ := testKey()
	b.Run("sha256", func(b *testing.B) {
		b.SetBytes(int64(len(image)))
		for b.Loop() {
			sha256.Sum256(image)
		}
	})
	b.Run("bundle", func(b *testing.B) {
		b.SetBytes(int64(len(image)))
		b.ReportAllocs()
		for b.Loop() {
			v := bundle.NewVerifier(nil, public, bundle.Policy{})
			_, err := io.Copy(v, bytes.NewReader(data))
			require.NoError(b, err)
			require.NoError(b, v.Close())
		}
	})
}
