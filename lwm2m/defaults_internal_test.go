package lwm2m

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDefaults: the zero configurations are what the documentation of their fields says.
func TestDefaults(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	require.Equal(t, ServerConfig{
		Logger: log, MinLifetime: time.Second, MaxLifetime: 10 * 365 * 24 * time.Hour, MaxSilence: 30 * 24 * time.Hour,
		AwakeTime: 93 * time.Second, FlushInterval: 20 * time.Second, MaxRegistrations: 4_000_000, MaxRegistrationBytes: 1 << 30,
		MaxLinks: 4 << 10, MaxMessage: 64 << 10,
	}, ServerConfig{Logger: log}.withDefaults())
	require.Equal(t, ClientConfig{
		Endpoint: "a", PSKIdentity: "a", Version: "1.1", Lifetime: 300 * time.Second, Logger: log,
		MinRetry: 2 * time.Second, MaxRetry: 5 * time.Minute, MaxMessage: 64 << 10,
	}, ClientConfig{Endpoint: "a", Logger: log}.withDefaults())
	bounded := ServerConfig{MinLifetime: 1, FlushInterval: time.Hour, MaxLinks: 1 << 20}.withDefaults()
	require.Equal(t, time.Second, bounded.MinLifetime)
	require.Equal(t, 30*time.Second, bounded.FlushInterval)
	require.Equal(t, 64<<10, bounded.MaxLinks)
}
