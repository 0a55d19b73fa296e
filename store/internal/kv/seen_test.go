package kv

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/store"
)

// TestRenewalsAreSmall: a renewal writes its times, and leaves the record as it is.
func TestRenewalsAreSmall(t *testing.T) {
	var base shaky
	db, err := New(&base, false)
	require.NoError(t, err)
	now := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	registration := store.RegistrationRecord{ID: "r", Links: strings.Repeat("</3/0>,", 100), Registered: now, Updated: now, LastSeen: now}
	put := func() {
		for n := range 100 {
			_, err := db.Commit(t.Context(), store.PutRegistration{Endpoint: fmt.Sprint("ep", n), Registration: registration})
			require.NoError(t, err)
		}
	}
	put()
	_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: "ep7", Firmware: store.Firmware{Version: "1"}})
	require.NoError(t, err)
	record := base.tables[devices].value("ep7")
	var writes writeSet
	db.overlay.writes = &writes
	registration.Updated = now.Add(time.Hour)
	put()
	require.Empty(t, writes[devices].pages)
	require.Same(t, &record[0], &base.tables[devices].value("ep7")[0])
	require.Less(t, len(base.tables[seen].value("ep7")), 32)
	d, err := db.Device(t.Context(), "ep7")
	require.NoError(t, err)
	require.Equal(t, store.Device{Endpoint: "ep7", Registration: registration, Firmware: store.Firmware{Version: "1"}}, d)

	for _, damage := range []string{"", "garbage", "\x04garbage"} {
		base.tables[seen].Put([]byte("ep7"), []byte(damage))
		d, err := db.Device(t.Context(), "ep7")
		require.NoError(t, err)
		require.Equal(t, now, d.Registration.Updated, "that of the Register")
		require.Equal(t, now, d.Registration.LastSeen)
	}
	put()
	d, err = db.Device(t.Context(), "ep7")
	require.NoError(t, err)
	require.Equal(t, registration, d.Registration)

	base.tables[devices].Put([]byte("ep7"), []byte("garbage"))
	_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: "ep7", Firmware: store.Firmware{Version: "2"}})
	require.NoError(t, err)
	d, err = db.Device(t.Context(), "ep7")
	require.NoError(t, err)
	require.Equal(t, store.Device{Endpoint: "ep7", Firmware: store.Firmware{Version: "2"}}, d, "a damaged record is replaced as if there were none")
}

func (m *Map) value(key string) []byte {
	value, _ := m.Get([]byte(key))
	return value
}
