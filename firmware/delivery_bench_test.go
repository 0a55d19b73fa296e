package firmware

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/otago-iot/otago/store/memory"
)

// BenchmarkDelivery downloads one image, and compares it with net/http's file server.
func BenchmarkDelivery(b *testing.B) {
	r, err := OpenRepository(b.TempDir(), memory.New(), RepositoryConfig{})
	if err != nil {
		b.Fatal(err)
	}
	img, err := r.Add(b.Context(), Image{Version: "1"}, io.LimitReader(zeros{}, 4<<20))
	if err != nil {
		b.Fatal(err)
	}
	d, err := NewDelivery(r, DeliveryConfig{})
	if err != nil {
		b.Fatal(err)
	}
	token, hash := newToken()
	if err := d.allow(grant{hash: hash, update: "u1", image: img.ID}); err != nil {
		b.Fatal(err)
	}
	file := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { http.ServeFile(w, req, r.path(img.SHA256)) })
	for _, bench := range []struct {
		name    string
		handler http.Handler
	}{{"baseline ServeFile", file}, {"Handler", d}} {
		b.Run(bench.name, func(b *testing.B) {
			srv := httptest.NewServer(bench.handler)
			defer srv.Close()
			b.SetBytes(img.Size)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := http.Get(srv.URL + "/fw/" + token)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, resp.Body); n != img.Size || err != nil {
					b.Fatal(n, err)
				}
				resp.Body.Close()
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// BenchmarkFind finds a path among the grants of a fleet, as for each block of a download by CoAP.
func BenchmarkFind(b *testing.B) {
	r, err := OpenRepository(b.TempDir(), memory.New(), RepositoryConfig{})
	if err != nil {
		b.Fatal(err)
	}
	img, err := r.Add(b.Context(), Image{Version: "1"}, strings.NewReader("abc"))
	if err != nil {
		b.Fatal(err)
	}
	d, err := NewDelivery(r, DeliveryConfig{})
	if err != nil {
		b.Fatal(err)
	}
	for n := range 100_000 {
		_, hash := newToken()
		if err := d.allow(grant{hash: hash, update: fmt.Sprint(n), image: img.ID}); err != nil {
			b.Fatal(err)
		}
	}
	token, hash := newToken()
	if err := d.allow(grant{hash: hash, update: "u1", image: img.ID}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.find(b.Context(), "/fw/"+token, "", "test"); err != nil {
			b.Fatal(err)
		}
	}
}
