package dtls

import (
	"errors"
	"hash/maphash"
	"testing"

	"github.com/stretchr/testify/require"
)

// Identities have different hashes, and no identity has 0.
func TestIdentityHash(t *testing.T) {
	seed := maphash.MakeSeed()
	require.Zero(t, (*Identity)(nil).Hash(seed))
	require.Zero(t, new(Identity).Hash(seed))
	hashes := map[uint64]bool{}
	for _, i := range []*Identity{
		{PSKIdentity: []byte("a")}, {PSKIdentity: []byte("b")}, {Certificates: [][]byte{[]byte("a")}},
	} {
		hash := i.Hash(seed)
		require.NotZero(t, hash)
		require.Equal(t, hash, i.Hash(seed))
		hashes[hash] = true
	}
	require.Len(t, hashes, 3)
}

// Identities of one byte are identities.
func TestShortIdentity(t *testing.T) {
	server := serve(t, pskOf("d", testKey))
	u, err := dial(t, server.addr, Credentials{Identity: []byte("d"), Key: testKey})
	require.NoError(t, err)
	u.ask(t, "hello")
	require.Equal(t, "d", string((<-server.opened).proven.PSKIdentity))
}

// A server says which alert ended a handshake, unless it ended the handshake itself.
func TestExplain(t *testing.T) {
	failed := errors.New("failed")
	for _, cause := range []error{nil, errPionClosed} {
		err := (&handshake{alert: alertHandshakeFailure}).explain(cause, failed)
		require.EqualError(t, err, "peer sent alert: handshake failure: failed")
	}
	require.Equal(t, errSuperseded, (&handshake{alert: alertHandshakeFailure}).explain(errSuperseded, failed))
	require.Equal(t, failed, new(handshake).explain(nil, failed))
}

// Only the first fragment of a ClientHello is parsed.
func TestLaterFragment(t *testing.T) {
	hello := make([]byte, recordHeaderSize+12+2+32+1+1+4)
	hello[0], hello[13] = recordHandshake, 1
	hello[len(hello)-3] = 2 // one suite
	_, ok := parseHello(hello)
	require.True(t, ok)
	for _, at := range []int{19, 20, 21} {
		hello[at] = 1
		_, ok := parseHello(hello)
		require.False(t, ok, "offset in byte %d", at)
		hello[at] = 0
	}
}
