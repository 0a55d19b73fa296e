package httpapi_test

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/bolt"
)

// TestDamagedRecords damages one record of each kind, beside intact ones.
func TestDamagedRecords(t *testing.T) {
	file, err := bbolt.Open(filepath.Join(t.TempDir(), "ota.db"), 0o600, &bbolt.Options{NoSync: true})
	require.NoError(t, err)
	defer file.Close()
	var logged testkit.Log
	var db *bolt.Store
	open := func() *service {
		db, err = bolt.New(file, bolt.Config{})
		require.NoError(t, err)
		options := httpapi.Config{Logger: slog.New(slog.NewTextHandler(&logged, nil))}
		return mountOn(t, db, httpapi.AllowAll, options, func(h http.Handler) http.Handler { return h })
	}
	s := open()
	image, other := s.image("1.1.0"), s.image("1.2.0")
	first, update, last := s.start("a", image), s.start("b", image), s.start("c", image)
	for _, endpoint := range []string{"a", "b", "c"} {
		s.register(endpoint, store.RegistrationRecord{ID: "r", Transport: "coap"})
	}
	var lines uint64
	for _, name := range []string{"one", "two"} {
		lines, err = db.Commit(t.Context(), store.AppendEvents{Events: []store.Event{{Update: first, Endpoint: "a", Name: name}}})
		require.NoError(t, err)
	}
	require.NoError(t, db.Close()) // writes the records into their tables
	damage := func(table string, key []byte) {
		require.NoError(t, file.Update(func(tx *bbolt.Tx) error {
			bucket := tx.Bucket([]byte(bolt.DefaultNamespace)).Bucket([]byte(table))
			require.NotNil(t, bucket.Get(key))
			return bucket.Put(key, []byte("\x02{\"id"))
		}))
	}
	damage("images", []byte(other))
	damage("updates", []byte(update))
	damage("devices", []byte("b"))
	damage("events", binary.BigEndian.AppendUint64(nil, lines-1))
	s = open()
	defer db.Close()

	type item struct{ ID, Endpoint, Damaged string }
	type list struct {
		Items []item
		Next  string
	}
	const why = "it has format 2, not 6"
	images := decode[list](t, s.get("/api/v1/images"))
	require.Len(t, images.Items, 2)
	require.ElementsMatch(t, []item{{ID: image}, {ID: other, Damaged: why}}, images.Items)
	devices := decode[list](t, s.get("/api/v1/devices"))
	require.Equal(t, []item{{Endpoint: "a"}, {Endpoint: "b", Damaged: why}, {Endpoint: "c"}}, devices.Items)
	for _, query := range []string{"", "&outcome=", "&state=idle"} {
		var got []item
		path := "/api/v1/updates?limit=1" + query
		for range 3 {
			l := decode[list](t, s.get(path))
			require.Len(t, l.Items, 1)
			got = append(got, l.Items...)
			path = "/api/v1/updates?limit=1" + query + "&cursor=" + l.Next
		}
		require.Equal(t, []item{{ID: last, Endpoint: "c"}, {ID: update, Damaged: why}, {ID: first, Endpoint: "a"}}, got)
	}

	for _, path := range []string{"/api/v1/images/" + other, "/api/v1/devices/b", "/api/v1/updates/" + update} {
		p := requireProblem(t, s.get(path), http.StatusInternalServerError, "damaged")
		require.Contains(t, p.Detail, why)
	}
	requireProblem(t, s.do(http.MethodPost, "/api/v1/updates/"+update+"/cancel", nil), http.StatusInternalServerError, "damaged")
	p := requireProblem(t, s.post("/api/v1/updates", `{"endpoint":"b","image":"`+image+`"}`), http.StatusConflict, "update-active")
	require.Equal(t, update, p.Update)

	type line struct {
		Seq            uint64
		Event, Damaged string
	}
	journal := decode[struct{ Journal []line }](t, s.get("/api/v1/updates/"+first)).Journal
	require.Equal(t, []line{{Event: "created"}, {Seq: lines - 1, Damaged: why}, {Event: "two"}}, journal)

	next, end := openEvents(t, s.Client(), s.URL+"/api/v1/events")
	defer end()
	var seqs []uint64
	for range 4 {
		seqs = append(seqs, next().data.Seq)
	}
	require.Equal(t, []uint64{1, 2, 3, lines}, seqs, "the damaged line is left out")

	remove := func(id string, header ...string) answer {
		t.Helper()
		return s.do(http.MethodDelete, "/api/v1/updates/"+id, nil, header...)
	}
	requireProblem(t, remove(first), http.StatusConflict, "update-active")
	requireProblem(t, remove("nothing"), http.StatusNotFound, "not-found")
	requireProblem(t, remove(update, "Origin", "https://evil.example"), http.StatusForbidden, "foreign-origin")
	requireProblem(t, s.get("/api/v1/updates/"+update), http.StatusInternalServerError, "damaged")
	require.Equal(t, http.StatusNoContent, remove(update).StatusCode)
	requireProblem(t, remove(update), http.StatusNotFound, "not-found")
	requireProblem(t, s.get("/api/v1/updates/"+update), http.StatusNotFound, "not-found")
	require.Equal(t, http.StatusOK, s.get("/api/v1/updates/"+first).StatusCode)
	s.start("b", image)
	require.Contains(t, logged.String(), fmt.Sprintf("path=/api/v1/updates/%s", update))
}
