package firmware_test

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store/memory"
)

// TestRegistrationsComeBack fills every field of a registration, to notice one that is not kept.
func TestRegistrationsComeBack(t *testing.T) {
	version, err := lwm2m.ParseVersion("1.2")
	require.NoError(t, err)
	now := time.Now().UTC().Truncate(time.Microsecond)
	want := lwm2m.Registration{
		Endpoint: "dev", ID: "abc", Address: netip.MustParseAddrPort("192.0.2.1:1"), Local: netip.MustParseAddrPort("192.0.2.2:2"),
		Transport: lwm2m.TransportDTLS, Version: version, Lifetime: time.Minute, Binding: "UT", Queue: true, SMS: "123",
		ProfileID: "p", Attributes: "site=north", Links: "</5/0>", Identity: lwm2m.Identity{Kind: lwm2m.IdentityPSK, Name: "i"}, Secured: true,
		Registered: now, Updated: now.Add(time.Second), LastSeen: now.Add(2 * time.Second), Ended: now.Add(3 * time.Second),
	}
	requireFilled(t, want)
	kept := firmware.Registrations(memory.New())
	require.NoError(t, kept.PutRegistration(t.Context(), want))
	for got, err := range kept.Registrations(t.Context()) {
		require.NoError(t, err)
		require.Equal(t, want, got)
	}

	server, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: kept})
	require.NoError(t, err)
	want.Ended = time.Time{}
	require.NoError(t, kept.PutRegistration(t.Context(), want))
	got, ok := server.Registration("dev")
	require.True(t, ok)
	require.True(t, got.Ended.IsZero(), "a device is online after a restart of the server")
}

func requireFilled(t *testing.T, r lwm2m.Registration) {
	t.Helper()
	v := reflect.ValueOf(r)
	for i := range v.NumField() {
		require.False(t, v.Field(i).IsZero(), v.Type().Field(i).Name)
	}
}
