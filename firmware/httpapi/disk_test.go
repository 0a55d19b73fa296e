package httpapi

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/store"
)

// fullDisk is a manager whose store has no space left.
type fullDisk struct{ manager }

func (fullDisk) Start(context.Context, firmware.Request) (firmware.Update, error) {
	return firmware.Update{}, fmt.Errorf("commit: %w", store.ErrNoSpace)
}

// fullFolder is a repository without space.
type fullFolder struct{ repository }

func (fullFolder) Add(_ context.Context, _ firmware.Image, r io.Reader) (firmware.Image, error) {
	_, _ = io.ReadAll(r)
	return firmware.Image{}, fmt.Errorf("%w: storing an image: write", store.ErrNoSpace)
}

func TestFullDisk(t *testing.T) {
	a := Recorded(t, newAPI(fullDisk{}, fullFolder{}, AllowAll, Config{}))
	for path, body := range map[string]string{"images?version=1": "image", "updates": `{"endpoint":"e","image":"i"}`} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/"+path, strings.NewReader(body))
		r.Header.Set("Content-Type", map[bool]string{true: applicationJSON, false: octetStream}[path == "updates"])
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		require.Equal(t, 507, w.Code, w.Body)
		require.Contains(t, w.Body.String(), "disk-full")
	}
}
