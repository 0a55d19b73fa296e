package firmware_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/store/memory"
)

// An objectStore is Blobs in an object store with an API like that of S3: PUT, GET with a Range,
// DELETE. A real one signs its requests.
type objectStore struct{ bucket string }

func (s objectStore) do(ctx context.Context, method, digest string, body io.Reader, size, offset int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.bucket+"/"+digest, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 && (offset == 0 || resp.StatusCode == http.StatusPartialContent) {
		return resp, nil
	}
	_ = resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, fs.ErrNotExist
	}
	return nil, fmt.Errorf("%s of an object: %s", method, resp.Status)
}

// Put implements firmware.Blobs. The store takes the object as a whole, or not at all.
func (s objectStore) Put(ctx context.Context, digest string, body *io.SectionReader) error {
	resp, err := s.do(ctx, http.MethodPut, digest, body, body.Size(), 0)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Open implements firmware.Blobs.
func (s objectStore) Open(ctx context.Context, digest string, offset int64) (io.ReadCloser, error) {
	resp, err := s.do(ctx, http.MethodGet, digest, http.NoBody, 0, offset)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Delete implements firmware.Blobs.
func (s objectStore) Delete(ctx context.Context, digest string) error {
	resp, err := s.do(ctx, http.MethodDelete, digest, http.NoBody, 0, 0)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Images are kept in an object store.
func ExampleNewRepository() {
	bucket := httptest.NewServer(newFakeBucket())
	defer bucket.Close()
	spool, err := os.MkdirTemp("", "spool")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(spool)

	blobs := objectStore{bucket.URL + "/firmware"}
	images, err := firmware.NewRepository(blobs, memory.New(), firmware.RepositoryConfig{Spool: spool})
	if err != nil {
		panic(err)
	}
	img, err := images.Add(context.Background(), firmware.Image{Name: "sensor", Version: "1.1.0"}, strings.NewReader("the package"))
	if err != nil {
		panic(err)
	}
	pkg, err := images.Open(context.Background(), img.ID)
	if err != nil {
		panic(err)
	}
	defer pkg.Close()
	got, err := io.ReadAll(io.NewSectionReader(pkg, 0, pkg.Size()))
	fmt.Printf("%s %v\n", got, err)
	// Output: the package <nil>
}

// A test of objectStore, as every implementation of Blobs has one.
func TestObjectStore(t *testing.T) {
	firmwaretest.RunBlobs(t, func(t testing.TB) firmware.Blobs {
		bucket := httptest.NewServer(newFakeBucket())
		t.Cleanup(bucket.Close)
		return objectStore{bucket.URL + "/firmware"}
	})
}

// newFakeBucket returns an object store in this process.
func newFakeBucket() http.Handler {
	var mu sync.Mutex
	objects := map[string][]byte{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPut:
			data, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			objects[r.URL.Path] = data
		case http.MethodDelete:
			mu.Lock()
			defer mu.Unlock()
			delete(objects, r.URL.Path)
			w.WriteHeader(http.StatusNoContent)
		default:
			mu.Lock()
			data, ok := objects[r.URL.Path]
			mu.Unlock()
			if !ok {
				http.NotFound(w, r)
				return
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		}
	})
}
