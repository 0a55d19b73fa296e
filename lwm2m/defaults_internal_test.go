package lwm2m

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// TestDefaults: the zero configurations have the documented defaults.
func TestDefaults(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	require.Equal(t, ServerConfig{
		Logger: log, MinLifetime: time.Second, MaxLifetime: 10 * 365 * 24 * time.Hour, MaxSilence: 30 * 24 * time.Hour,
		AwakeTime: 93 * time.Second, FlushInterval: 20 * time.Second, MaxRegistrations: 4_000_000, MaxRegistrationBytes: 1 << 30,
		MaxLinks: 4 << 10, MaxMessage: 64 << 10, SocketBuffer: 32 << 20,
		MaxPeers: 1_000_000, MaxHandlers: 256, MaxWaiting: 65_536, MaxTransfers: 4096, MaxTransferBytes: 64 << 20,
		MaxHandshakes: 1000, MaxLookups: 64,
	}, ServerConfig{Logger: log}.withDefaults())
	require.Equal(t, ClientConfig{
		Endpoint: "a", PSKIdentity: "a", Version: "1.1", Lifetime: 300 * time.Second, Logger: log,
		MinRetry: 2 * time.Second, MaxRetry: 5 * time.Minute, MaxMessage: 64 << 10,
	}, ClientConfig{Endpoint: "a", Logger: log}.withDefaults())
	require.Equal(t, time.Second, ServerConfig{MinLifetime: 1}.withDefaults().MinLifetime)
}

// TestBoundsOfPeers checks that the bounds of the configuration are those of the endpoint.
func TestBoundsOfPeers(t *testing.T) {
	config := ServerConfig{
		MaxPeers: 1, MaxHandlers: 2, MaxWaiting: 3, MaxTransfers: 4, MaxTransferBytes: 5, MaxConnections: 100_000, MaxHandshakes: 7,
	}
	require.Equal(t, coap.Bounds{
		Peers: 1, DedupEntries: 1, DedupBytes: 64, Workers: 2, Queue: 3, Uploads: 4, Downloads: 4, UploadBytes: 5,
		Streams: 100_000, StreamBytes: 100_000 * 6 << 10, Handshakes: 7,
	}, config.bounds())
	config = ServerConfig{MaxPeers: math.MaxInt32}.withDefaults()
	require.Positive(t, config.bounds().DedupBytes, "also where an int has 32 bits")
}

// countedCredentials know no identity, and take their time to say so.
type countedCredentials struct{ running, most atomic.Int32 }

func (c *countedCredentials) PSK(ctx context.Context, _ string) ([]byte, error) {
	c.most.Store(max(c.most.Load(), c.running.Add(1)))
	defer c.running.Add(-1)
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	return nil, ErrUnknownIdentity
}

func (c *countedCredentials) Endpoint(context.Context, Identity) (string, error) {
	return "", ErrUnknownIdentity
}

// TestLookupsAreBounded makes six lookups at once.
func TestLookupsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		credentials := &countedCredentials{}
		s := MustServer(ServerConfig{Credentials: credentials, MaxLookups: 2})
		begin := time.Now()
		var group sync.WaitGroup
		for range 6 {
			group.Go(func() {
				_, err := s.lookUp(t.Context(), Identity{Kind: IdentityPSK, Name: "a"}, nil)
				require.ErrorIs(t, err, ErrUnknownIdentity)
			})
		}
		group.Wait()
		require.Equal(t, int32(2), credentials.most.Load())
		require.Equal(t, 3*time.Second, time.Since(begin))
	})
}

// TestServerConfigErrors checks that NewServer names the field that is wrong.
func TestServerConfigErrors(t *testing.T) {
	for want, config := range map[string]ServerConfig{
		"Certificate: it is empty":   {Certificate: &tls.Certificate{}},
		"ClientCAs: set without":     {ClientCAs: x509.NewCertPool()},
		"MinLifetime: -1s is":        {MinLifetime: -time.Second},
		"MaxLifetime: 1s is below":   {MinLifetime: time.Minute, MaxLifetime: time.Second},
		"MaxSilence: -1s is":         {MaxSilence: -time.Second},
		"AwakeTime: -1s is":          {AwakeTime: -time.Second},
		"FlushInterval: 31s is more": {FlushInterval: 31 * time.Second},
		"MaxRegistrations: -1 is":    {MaxRegistrations: -1},
		"MaxRegistrationBytes: -1":   {MaxRegistrationBytes: -1},
		"MaxLinks: 65537 is not":     {MaxLinks: 65_537},
		"MaxMessage: -1 is":          {MaxMessage: -1},
		"SocketBuffer: -1 is":        {SocketBuffer: -1},
		"MaxPeers: -1 is":            {MaxPeers: -1},
		"MaxHandlers: -1 is":         {MaxHandlers: -1},
		"MaxWaiting: -1 is":          {MaxWaiting: -1},
		"MaxTransfers: -1 is":        {MaxTransfers: -1},
		"MaxTransferBytes: -1 is":    {MaxTransferBytes: -1},
		"MaxConnections: -1 is":      {MaxConnections: -1},
		"MaxHandshakes: -1 is":       {MaxHandshakes: -1},
		"MaxLookups: -1 is":          {MaxLookups: -1},
	} {
		_, err := NewServer(config)
		require.ErrorContains(t, err, "lwm2m: ServerConfig."+want)
	}
	_, err := NewServer(ServerConfig{})
	require.NoError(t, err)
}

// TestRegistrationJSON checks that a registry can keep a registration as JSON, as doc/registry.md
// does.
func TestRegistrationJSON(t *testing.T) {
	now := time.Date(2026, 11, 29, 21, 0, 0, 0, time.UTC)
	for _, r := range []Registration{{}, {
		Endpoint: "a", ID: "x", Address: netip.MustParseAddrPort("[::1]:5683"), Transport: TransportDTLS, Version: Version{Major: 1, Minor: 1},
		Lifetime: time.Hour, Binding: "U", Queue: true, Attributes: "site=north", Links: "</3/0>", Identity: Identity{Kind: IdentityPSK, Name: "id"}, Secured: true,
		Registered: now, Updated: now, LastSeen: now,
	}} {
		record, err := json.Marshal(r)
		require.NoError(t, err)
		var back Registration
		require.NoError(t, json.Unmarshal(record, &back))
		require.Equal(t, r, back)
	}
}
