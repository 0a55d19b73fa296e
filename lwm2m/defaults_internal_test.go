package lwm2m

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDefaults: the zero configurations have the documented defaults.
func TestDefaults(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	require.Equal(t, ServerConfig{
		Logger: log, MinLifetime: time.Second, MaxLifetime: 10 * 365 * 24 * time.Hour, MaxSilence: 30 * 24 * time.Hour,
		AwakeTime: 93 * time.Second, FlushInterval: 20 * time.Second, MaxRegistrations: 4_000_000, MaxRegistrationBytes: 1 << 30,
		MaxLinks: 4 << 10, MaxMessage: 64 << 10, SocketBuffer: 32 << 20,
	}, ServerConfig{Logger: log}.withDefaults())
	require.Equal(t, ClientConfig{
		Endpoint: "a", PSKIdentity: "a", Version: "1.1", Lifetime: 300 * time.Second, Logger: log,
		MinRetry: 2 * time.Second, MaxRetry: 5 * time.Minute, MaxMessage: 64 << 10,
	}, ClientConfig{Endpoint: "a", Logger: log}.withDefaults())
	require.Equal(t, time.Second, ServerConfig{MinLifetime: 1}.withDefaults().MinLifetime)
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
