package dtls

import (
	"bytes"
	"crypto/aes"
	"crypto/rand"
	"testing"

	"github.com/pion/dtls/v3/pkg/crypto/ccm"
	"github.com/stretchr/testify/require"
)

// TestCCM compares the results with those of another implementation, for all lengths.
func TestCCM(t *testing.T) {
	key := make([]byte, 16)
	rand.Read(key)
	b, err := aes.NewCipher(key)
	require.NoError(t, err)
	theirs, err := ccm.NewCCM(b, ccmTag, ccmNonce)
	require.NoError(t, err)
	ours, err := newCCM8(b)
	require.NoError(t, err)
	for n := range 300 {
		for _, size := range []int{13, 14, 15, 23, 30, 31, 46, 200} {
			nonce, content, data := make([]byte, ccmNonce), make([]byte, n), make([]byte, size)
			rand.Read(nonce)
			rand.Read(content)
			rand.Read(data)
			want := theirs.Seal(nil, nonce, content, data)
			require.Equal(t, want, ours.Seal(nil, nonce, content, data), "%d bytes, %d of data", n, size)
			in := append(make([]byte, 3, 3+n+ccmTag), content...)
			require.Equal(t, want, ours.Seal(in[:3], nonce, in[3:], data)[3:], "in place")
			got, err := ours.Open([]byte("abc"), nonce, want, data)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, got[3:]))
			want[n%len(want)] ^= 1
			_, err = ours.Open(nil, nonce, want, data)
			require.Error(t, err)
		}
	}
	_, err = ours.Open(nil, make([]byte, ccmNonce), make([]byte, ccmTag-1), make([]byte, 13))
	require.Error(t, err)
}

// TestCCMIsNoBlockOff tests a message with more than 256 blocks.
func TestCCMIsNoBlockOff(t *testing.T) {
	b, err := aes.NewCipher(make([]byte, 16))
	require.NoError(t, err)
	theirs, err := ccm.NewCCM(b, ccmTag, ccmNonce)
	require.NoError(t, err)
	ours, err := newCCM8(b)
	require.NoError(t, err)
	nonce := bytes.Repeat([]byte{0xff}, ccmNonce)
	content, data := make([]byte, 100_000), make([]byte, 13)
	require.True(t, bytes.Equal(theirs.Seal(nil, nonce, content, data), ours.Seal(nil, nonce, content, data)))
}
