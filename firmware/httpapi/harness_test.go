package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
)

// service is a manager over a store in memory, without devices, and its API on a loopback listener.
type service struct {
	t       *testing.T
	db      store.Store
	manager *firmware.Manager
	*httptest.Server
}

func newService(t *testing.T, options httpapi.Config) *service {
	t.Helper()
	return mount(t, options, func(h http.Handler) http.Handler { return h })
}

// mount wraps the handler as a program's own server may do.
func mount(t *testing.T, options httpapi.Config, wrap func(http.Handler) http.Handler) *service {
	t.Helper()
	return mountOn(t, memory.New(), httpapi.AllowAll, options, wrap)
}

func mountOn(
	t *testing.T, db store.Store, authorize func(*http.Request, httpapi.Access) error, options httpapi.Config,
	wrap func(http.Handler) http.Handler,
) *service {
	t.Helper()
	images, err := firmware.OpenRepository(t.TempDir(), db, firmware.RepositoryConfig{})
	require.NoError(t, err)
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{})
	require.NoError(t, err)
	manager, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{})
	require.NoError(t, err)
	server := httptest.NewServer(wrap(handler(t, manager, authorize, options)))
	t.Cleanup(server.Close)
	return &service{t: t, db: db, manager: manager, Server: server}
}

// answer is a response, read to its end.
type answer struct {
	*http.Response
	body []byte
}

// do sends a request; header holds pairs of names and values.
func (s *service) do(method, path string, body io.Reader, header ...string) answer {
	s.t.Helper()
	return s.doContext(s.t.Context(), method, path, body, header...)
}

func (s *service) doContext(ctx context.Context, method, path string, body io.Reader, header ...string) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, s.URL+path, body)
	require.NoError(s.t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := s.Client().Do(r)
	require.NoError(s.t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	require.Equal(s.t, "nosniff", response.Header.Get("X-Content-Type-Options"))
	require.Equal(s.t, "no-store", response.Header.Get("Cache-Control"))
	return answer{response, data}
}

func (s *service) get(path string) answer {
	s.t.Helper()
	return s.do(http.MethodGet, path, nil)
}

func (s *service) post(path, body string, header ...string) answer {
	s.t.Helper()
	return s.do(http.MethodPost, path, strings.NewReader(body), append([]string{"Content-Type", "application/json"}, header...)...)
}

func (s *service) upload(path string, content []byte) answer {
	s.t.Helper()
	return s.do(http.MethodPost, path, bytes.NewReader(content), "Content-Type", "application/octet-stream")
}

// image uploads an image and returns its id.
func (s *service) image(version string) string {
	s.t.Helper()
	a := s.upload("/api/v1/images?name=sensor&version="+version, []byte("image "+version))
	require.Equal(s.t, http.StatusCreated, a.StatusCode, "%s", a.body)
	return decode[struct{ ID string }](s.t, a).ID
}

// start starts an update and returns its id.
func (s *service) start(endpoint, image string) string {
	s.t.Helper()
	a := s.post("/api/v1/updates", `{"endpoint":"`+endpoint+`","image":"`+image+`"}`)
	require.Equal(s.t, http.StatusCreated, a.StatusCode, "%s", a.body)
	return decode[struct{ ID string }](s.t, a).ID
}

func decode[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal(a.body, &v), "%s", a.body)
	return v
}

// problem is the body of an error.
type problem struct {
	Type, Title, Detail, Field, Update, Code string
	Status                                   int
}

// requireProblem checks an answer's status and the kind of its problem document.
func requireProblem(t *testing.T, a answer, status int, kind string) problem {
	t.Helper()
	require.Equal(t, status, a.StatusCode, "%s", a.body)
	require.Equal(t, "application/problem+json", a.Header.Get("Content-Type"))
	p := decode[problem](t, a)
	require.Equal(t, "tag:otago-iot.github.io,2026:problem:"+kind, p.Type)
	require.Equal(t, status, p.Status)
	require.NotEmpty(t, p.Title)
	require.NotEmpty(t, p.Detail)
	return p
}

// listen opens sockets of a network.
func listen(network *simnet.Network, address string) func(context.Context) (net.PacketConn, error) {
	return func(context.Context) (net.PacketConn, error) { return network.Listen(address) }
}

// handler calls httpapi.New, which must not fail. openapi.yaml must allow what the handler does.
func handler(t testing.TB, m *firmware.Manager, authorize func(*http.Request, httpapi.Access) error, config httpapi.Config) http.Handler {
	t.Helper()
	h, err := httpapi.New(m, authorize, config)
	require.NoError(t, err)
	return httpapi.Recorded(t, h)
}
