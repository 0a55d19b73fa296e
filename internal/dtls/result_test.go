package dtls

import (
	"bytes"
	"encoding/gob"
	"net"
	"reflect"
	"testing"

	pion "github.com/pion/dtls/v3"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/udp"
)

// exported makes a handshake on loopback, and returns both sides with the state that pion exports.
func exported(t *testing.T, client, server Credentials) (sides [2]*handshake, results [2]*result) {
	t.Helper()
	var conns [2]net.PacketConn
	for i := range conns {
		var err error
		conns[i], err = net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { conns[i].Close() })
	}
	done := make(chan error, 2)
	var made [2]*pion.Conn
	for i, secure := range []Credentials{client, server} {
		addr, _ := udp.AddrPort(conns[1-i].LocalAddr())
		config := Config{Credentials: secure}
		if i == 0 {
			config.Server = addr
		}
		s, err := New(t.Context(), conns[i], config, nil)
		require.NoError(t, err)
		t.Cleanup(s.stop)
		h := s.newHandshake(addr)
		h.client, h.aead = i == 0, true
		sides[i] = h
		go func() {
			b := make([]byte, maxRecord)
			for {
				n, _, err := conns[i].ReadFrom(b)
				if err != nil {
					return
				}
				h.feed(b[:n])
			}
		}()
		go func() {
			conn, err := h.open()
			if err == nil {
				made[i] = conn
				err = conn.HandshakeContext(t.Context())
			}
			h.silence()
			done <- err
		}()
	}
	for range 2 {
		require.NoError(t, <-done)
	}
	for i, conn := range made {
		var err error
		results[i], err = resultOf(conn)
		require.NoError(t, err)
		conn.Close()
	}
	return sides, results
}

// If a version of pion renames, and so omits, a field that we need, the handshake fails, for each
// such field: no association is better than one that repeats record numbers.
func TestExportedStateIsChecked(t *testing.T) {
	key := func([]byte) ([]byte, error) { return []byte("key"), nil }
	for name, noCID := range map[string]bool{"Connection ID": false, "no Connection ID": true} {
		t.Run(name, func(t *testing.T) {
			sides, results := exported(t,
				Credentials{Identity: []byte("me"), Key: []byte("key"), NoConnectionID: noCID}, Credentials{PSK: key, NoConnectionID: noCID})
			missing := make(map[string]bool)
			for i, h := range sides {
				flight, err := results[i].check(h)
				require.NoError(t, err)
				require.Len(t, flight.finished, 24)
				fields := reflect.ValueOf(*results[i]).Type()
				for f := range fields.NumField() {
					changed := *results[i]
					v := reflect.ValueOf(&changed).Elem().Field(f)
					if v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0 || h.client && fields.Field(f).Name == "IdentityHint" {
						continue
					}
					v.SetZero()
					var state bytes.Buffer // without fields that are zero
					require.NoError(t, gob.NewEncoder(&state).Encode(changed))
					r, err := decodeResult(state.Bytes())
					require.NoError(t, err)
					_, err = r.check(h)
					require.ErrorIs(t, err, errState, "without %v", fields.Field(f).Name)
					missing[fields.Field(f).Name] = true
				}
				again := *results[i]
				again.SequenceNumber = h.secret.wrote - 1
				_, err = again.check(h)
				require.ErrorIs(t, err, errState, "a number that was used")
				another := *results[i]
				another.MasterSecret = bytes.Repeat([]byte{1}, 48)
				_, err = another.check(h)
				require.ErrorIs(t, err, errState)
			}
			for _, field := range []string{"SequenceNumber", "RemoteSequenceNumber", "MasterSecret", "LocalRandom", "RemoteRandom", "IsClient", "IdentityHint"} {
				require.True(t, missing[field], field)
			}
			require.Equal(t, !noCID, missing["LocalConnectionID"] && missing["RemoteConnectionID"])
		})
	}
}
