package httpapi

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
)

// fullDisk is a manager and a repository that cannot write any more, and say so in many words.
type fullDisk struct {
	manager
	err error
}

func (f fullDisk) Start(context.Context, firmware.Request) (firmware.Update, error) {
	return firmware.Update{}, fmt.Errorf("store: commit: %w", f.err)
}

type fullFolder struct {
	repository
	err error
}

func (f fullFolder) Add(_ context.Context, _ firmware.Image, r io.Reader) (firmware.Image, error) {
	_, _ = io.ReadAll(r)
	return firmware.Image{}, fmt.Errorf("firmware: storing an image: %w", &fs.PathError{Op: "write", Err: f.err})
}

func TestFullDisk(t *testing.T) {
	for _, no := range noRoom {
		a := newAPI(fullDisk{err: no}, fullFolder{err: no}, AllowAll, Options{})
		for path, body := range map[string]string{"images?version=1": "image", "updates": `{"endpoint":"e","image":"i"}`} {
			r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/"+path, strings.NewReader(body))
			r.Header.Set("Content-Type", map[bool]string{true: applicationJSON, false: octetStream}[path == "updates"])
			w := httptest.NewRecorder()
			a.ServeHTTP(w, r)
			require.Equal(t, 507, w.Code, w.Body)
			require.Contains(t, w.Body.String(), "disk-full")
		}
	}
}
