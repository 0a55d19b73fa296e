package lwm2m_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// TestStatus: the status has the sockets, the registrations and the counts, also without hooks.
func TestStatus(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{MaxPeers: 500, Authorize: func(_ context.Context, r lwm2m.Registration) error {
		if r.Endpoint == "other" {
			return lwm2m.ErrForbidden
		}
		return nil
	}}, func(t *testing.T, w *world) {
		w.device(nil)
		s := w.server.Status()
		require.Equal(t, []lwm2m.SocketStatus{{Transport: lwm2m.TransportUDP, Addr: netip.MustParseAddrPort(serverAddress), Open: 1}}, s.Sockets)
		require.Equal(t, lwm2m.Use{Now: 1, Most: 4_000_000}, s.Registrations)
		require.Equal(t, lwm2m.Use{Now: 1, Most: 500}, s.Peers)
		require.Positive(t, s.RegistrationBytes.Now)
		require.Equal(t, lwm2m.ServerCounts{}, s.Counts)
		require.Zero(t, s.Waiting+s.UnderWay+s.Unstored)

		_, stop := w.deviceStop(func(c *lwm2m.ClientConfig) { c.Endpoint = "other" })
		time.Sleep(time.Second)
		stop()
		require.EqualValues(t, 1, w.server.Status().Counts.Refusals)
		w.net.SetDefault(simnet.Conditions{Loss: 1})
		call := make(chan error)
		go func() {
			_, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(3, 0, 3))
			call <- err
		}()
		synctest.Wait()
		require.Equal(t, 1, w.server.Status().UnderWay)
		require.ErrorIs(t, <-call, lwm2m.ErrTimeout)
		require.EqualValues(t, 4, w.server.Status().Counts.Retransmissions)
		w.stop()
		require.Empty(t, w.server.Status().Sockets)
	})
}

// TestStatusOfTransports: associations and connections count by socket, and handshakes by result.
func TestStatusOfTransports(t *testing.T) {
	credentials := keys(t, "a 00112233445566778899aabbccddeeff\n")
	s := secure(t, "127.0.0.1:0", lwm2m.ServerConfig{Credentials: credentials})
	t.Cleanup(s.stop)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	for _, config := range []lwm2m.ClientConfig{
		{Endpoint: "a", Server: s.uri, PSKIdentity: "a", PSK: []byte("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff")},
		{Endpoint: "b", Server: "coap+tcp://" + l.Addr().String()},
	} {
		client, err := lwm2m.NewClient(config)
		require.NoError(t, err)
		run, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- client.Run(run) }()
		t.Cleanup(func() {
			stop()
			require.NoError(t, <-ended)
		})
		within, done := context.WithTimeout(t.Context(), 20*time.Second)
		defer done()
		require.NoError(t, client.WaitRegistered(within))
	}
	status := s.Status()
	require.Len(t, status.Sockets, 2)
	for _, socket := range status.Sockets {
		require.Equal(t, 1, socket.Open, "%s", socket.Transport)
	}
	require.Equal(t, lwm2m.TransportDTLS, status.Sockets[0].Transport)
	require.Equal(t, lwm2m.TransportTCP, status.Sockets[1].Transport)
	require.EqualValues(t, 1, status.Connections.Now)
	require.EqualValues(t, 1, status.Counts.Handshakes)
	cancel()
	require.NoError(t, <-served)
	require.Len(t, s.Status().Sockets, 1)
}

// badStore is a RegistrationStore that fails while it is bad.
type badStore struct {
	lwm2m.RegistrationStore
	bad atomic.Bool
}

func (s *badStore) PutRegistration(ctx context.Context, r lwm2m.Registration) error {
	if s.bad.Load() {
		return errBroken
	}
	return s.RegistrationStore.PutRegistration(ctx, r)
}

// TestStatusOfTrouble: what does not work is in the status from its first failure until it works.
func TestStatusOfTrouble(t *testing.T) {
	name := filepath.Join(t.TempDir(), "devices.psk")
	require.NoError(t, os.WriteFile(name, []byte("a 00112233445566778899aabbccddeeff\n"), 0o600))
	down := &badStore{RegistrationStore: &memoryStore{}}
	down.bad.Store(true)
	inWorld(t, lwm2m.ServerConfig{Registrations: down, Credentials: lwm2m.PSKFile(name)}, func(t *testing.T, w *world) {
		_, stop := w.deviceStop(nil)
		time.Sleep(time.Minute)
		trouble := w.server.Status().Storing
		require.ErrorIs(t, trouble.Err, errBroken)
		require.InDelta(t, time.Minute, time.Since(trouble.Since), float64(time.Second))
		down.bad.Store(false)
		time.Sleep(5 * time.Minute)
		require.Equal(t, lwm2m.Trouble{}, w.server.Status().Storing)
		stop()

		require.NoError(t, os.WriteFile(name, nil, 0o600))
		time.Sleep(time.Minute)
		require.ErrorContains(t, w.server.Status().Reading.Err, "empty")
		require.NoError(t, os.WriteFile(name, []byte("# none\n"), 0o600))
		time.Sleep(time.Minute)
		require.Equal(t, lwm2m.Trouble{}, w.server.Status().Reading)
	})
}

// TestLatestRefusals: the status names each device that was refused once, with the latest reason.
func TestLatestRefusals(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{Authorize: func(_ context.Context, r lwm2m.Registration) error {
		return fmt.Errorf("%w: not this one", lwm2m.ErrForbidden)
	}}, func(t *testing.T, w *world) {
		refuse := func(endpoint string) {
			_, stop := w.deviceStop(func(c *lwm2m.ClientConfig) { c.Endpoint = endpoint })
			time.Sleep(time.Second)
			stop()
		}
		refuse("a")
		first := w.server.Status().Refusals
		require.Len(t, first, 1)
		refuse("b")
		refuse("a")
		now := w.server.Status().Refusals
		require.Len(t, now, 2)
		require.Equal(t, "b", now[1].Endpoint)
		a := now[0]
		require.Equal(t, "registration", a.What)
		require.Equal(t, "a", a.Endpoint)
		require.Equal(t, first[0].First, a.First)
		require.True(t, a.Last.After(first[0].Last))
		require.EqualValues(t, first[0].Count+1, a.Count)
		require.Contains(t, a.Reason, "not this one")
		require.True(t, a.Address.IsValid())
		require.Equal(t, lwm2m.TransportUDP, a.Transport)
	})
}
