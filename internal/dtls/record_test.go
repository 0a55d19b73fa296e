package dtls

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	pion "github.com/pion/dtls/v3"
	"github.com/stretchr/testify/require"
)

// sessionPair returns both ends of an association, as after a handshake.
func sessionPair(t testing.TB, suite pion.CipherSuiteID, cid bool) (client, server *Session) {
	t.Helper()
	r := result{
		LocalRandom: [32]byte{1}, RemoteRandom: [32]byte{2}, CipherSuiteID: uint16(suite), MasterSecret: make([]byte, 48),
		SequenceNumber: 1, RemoteSequenceNumber: 1, LocalEpoch: 1, RemoteEpoch: 1,
	}
	if cid {
		r.LocalConnectionID = []byte("12345678")
	}
	s := &Socket{}
	server, err := newSession(s, &r, netip.AddrPort{})
	require.NoError(t, err)
	r.LocalRandom, r.RemoteRandom = r.RemoteRandom, r.LocalRandom
	r.LocalConnectionID, r.RemoteConnectionID = nil, r.LocalConnectionID
	r.IsClient = true
	client, err = newSession(s, &r, netip.AddrPort{})
	require.NoError(t, err)
	return client, server
}

// With every suite, each record is accepted once, and no changed record is.
func TestRecordProtection(t *testing.T) {
	for _, suite := range append(append(certificateSuites, pskSuites...), cbcSuites...) {
		for _, cid := range []bool{false, true} {
			client, server := sessionPair(t, suite, cid)
			for _, n := range []int{0, 1, 15, 16, 17, 1152, 2000} {
				content := bytes.Repeat([]byte{byte(n)}, n)
				record, err := client.seal(nil, recordApplication, content)
				require.NoError(t, err)
				for range 20 {
					forged := bytes.Clone(record)
					forged[rand.N(len(forged))] ^= byte(1 << rand.N(8))
					r, _, err := nextRecord(forged, cidSize)
					if err != nil || r.epoch != 1 || (r.typ == recordWithCID) != cid {
						continue
					}
					if cid && !bytes.Equal(r.raw[11:19], server.cid[:]) {
						continue // it would belong to another session
					}
					_, _, _, err = server.open(r)
					require.Error(t, err, "%v, %d bytes", suite, n)
				}
				for again := range 2 {
					r, rest, err := nextRecord(bytes.Clone(record), cidSize)
					require.NoError(t, err)
					require.Empty(t, rest)
					got, typ, newest, err := server.open(r)
					if again > 0 {
						require.Error(t, err)
						continue
					}
					require.NoError(t, err, "%v, %d bytes", suite, n)
					require.True(t, newest)
					require.EqualValues(t, recordApplication, typ)
					require.True(t, bytes.Equal(content, got))
				}
			}
		}
	}
}

// A session sends no more records than there are record numbers.
func TestRecordNumbersEnd(t *testing.T) {
	client, _ := sessionPair(t, pion.TLS_PSK_WITH_AES_128_CCM_8, false)
	client.next = maxSequence
	_, err := client.seal(nil, recordApplication, nil)
	require.NoError(t, err)
	_, err = client.seal(nil, recordApplication, nil)
	require.ErrorIs(t, err, errSequence)
}

// The window behaves like a set of all numbers, except for those too old.
func TestReplayWindow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		var w replayWindow
		seen := map[uint64]bool{}
		var top uint64
		at := uint64(0)
		for range 500 {
			at = max(at+uint64(r.IntN(8)), 3) - 3
			if r.IntN(100) == 0 {
				at += uint64(r.IntN(200))
			}
			tooOld := len(seen) > 0 && at+64 <= top
			require.Equal(t, !seen[at] && !tooOld, w.fresh(at), "%d after %d", at, top)
			if w.fresh(at) {
				newest := w.mark(at)
				require.Equal(t, len(seen) == 0 || at > top, newest)
				seen[at], top = true, max(top, at)
			}
		}
	}
}

func TestUnwrapAlert(t *testing.T) {
	plain := []byte{recordAlert, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 5, 0, 2, alertFatal, 42}
	require.Equal(t, plain, unwrapAlert(plain))
	wrapped := []byte{recordWithCID, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4, 0, 3, alertFatal, 42, recordAlert}
	require.Equal(t, plain, unwrapAlert(wrapped))
}

// FuzzRecords splits datagrams, and parses them as ClientHellos.
func FuzzRecords(f *testing.F) {
	client, _ := sessionPair(f, pion.TLS_PSK_WITH_AES_128_GCM_SHA256, true)
	for range 2 {
		record, err := client.seal(nil, recordApplication, []byte("content"))
		require.NoError(f, err)
		f.Add(record)
		f.Add(append(bytes.Clone(record), record...))
	}
	hello := append([]byte{recordHandshake, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 56, 1, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 44}, make([]byte, 44)...)
	copy(hello[recordHeaderSize+12:], []byte{0xfe, 0xfd})
	hello[len(hello)-5] = 2
	f.Add(hello)
	f.Fuzz(func(t *testing.T, b []byte) {
		for rest := b; len(rest) > 0; {
			r, next, err := nextRecord(rest, cidSize)
			if err != nil {
				break
			}
			require.Equal(t, len(rest), len(r.raw)+len(next))
			require.LessOrEqual(t, r.header, len(r.raw))
			require.LessOrEqual(t, r.seq, uint64(maxSequence))
			rest = next
		}
		if h, ok := parseHello(b); ok {
			h.offers(pskSuites)
		}
		before := bytes.Clone(b)
		setVersion(b)
		require.Len(t, b, len(before))
		require.LessOrEqual(t, len(unwrapAlert(b)), max(len(b), recordHeaderSize+2))
	})
}

// FuzzSession passes datagrams to a session, which accepts only records that the peer has sealed.
func FuzzSession(f *testing.F) {
	for _, suite := range []pion.CipherSuiteID{pion.TLS_PSK_WITH_AES_128_CCM_8, pion.TLS_PSK_WITH_AES_128_CBC_SHA256} {
		client, _ := sessionPair(f, suite, true)
		record, err := client.seal(nil, recordApplication, []byte("content"))
		require.NoError(f, err)
		f.Add(record, suite == pion.TLS_PSK_WITH_AES_128_CBC_SHA256)
	}
	f.Fuzz(func(t *testing.T, b []byte, cbc bool) {
		suite := pion.TLS_PSK_WITH_AES_128_CCM_8
		if cbc {
			suite = pion.TLS_PSK_WITH_AES_128_CBC_SHA256
		}
		_, server := sessionPair(t, suite, true)
		r, _, err := nextRecord(b, cidSize)
		if err != nil || r.epoch != 1 || r.typ != recordWithCID {
			return
		}
		if len(b) > 10 && binary.BigEndian.Uint64(b[3:]) == 1<<48|1 {
			return // it may be the seed
		}
		content, _, _, err := server.open(r)
		require.Error(t, err, "%x", content)
	})
}

func BenchmarkRecords(b *testing.B) {
	for _, suite := range append(append([]pion.CipherSuiteID{}, pskSuites...), cbcSuites...) {
		for _, n := range []int{20, 1100} {
			b.Run(suite.String()+map[bool]string{true: "/small", false: "/block"}[n < 100], func(b *testing.B) {
				client, server := sessionPair(b, suite, false)
				content, out := make([]byte, n), make([]byte, 0, maxRecord)
				b.ReportAllocs()
				for b.Loop() {
					record, err := client.seal(out, recordApplication, content)
					if err != nil {
						b.Fatal(err)
					}
					r, _, _ := nextRecord(record, 0)
					if _, _, _, err := server.open(r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
