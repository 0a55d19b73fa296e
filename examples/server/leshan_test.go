package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// sink records what a server posts to Django. It can go away and come back at its address.
type sink struct {
	t       *testing.T
	address string
	server  *httptest.Server

	mu    sync.Mutex
	posts []string      // "3303/5700=1.0", or "composite"
	block chan struct{} // answers wait for it to be closed, if it is not nil
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, _ := io.ReadAll(r.Body)
	var post struct {
		Object int `json:"obj_id"`
		Val    struct {
			ID    int
			Value any
		}
	}
	what := "composite"
	if strings.HasSuffix(r.URL.Path, "/single") && json.Unmarshal(data, &post) == nil {
		what = fmt.Sprintf("%d/%d", post.Object, post.Val.ID)
		if post.Object != 10240 {
			what += fmt.Sprint("=", post.Val.Value)
		}
	}
	s.mu.Lock()
	s.posts = append(s.posts, what)
	block := s.block
	s.mu.Unlock()
	if block != nil {
		<-block
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(data)
}

func (s *sink) open() {
	l, err := net.Listen("tcp", s.address)
	require.NoError(s.t, err)
	s.address = l.Addr().String()
	s.server = httptest.NewUnstartedServer(s)
	_ = s.server.Listener.Close()
	s.server.Listener = l
	s.server.Start()
}

func (s *sink) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.posts...)
}

func (s *sink) await(want ...string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return strings.HasSuffix(strings.Join(s.list(), " "), strings.Join(want, " ")) },
		20*time.Second, 20*time.Millisecond, "%v does not arrive", want)
}

// What a server had not begun to post when it was killed arrives after its restart, once and in
// order. What it had begun is logged, and not repeated.
func TestLeshanSinkKilled(t *testing.T) {
	django := &sink{t: t, address: "127.0.0.1:0"}
	django.open()
	data := t.TempDir()
	start := func(coap string) *server {
		return startServer(t, "-data", data, "-coap", coap, "-leshan-sink", "http://"+django.address, "-leshan-api", "127.0.0.1:0")
	}
	s := start("127.0.0.1:0")
	temperature := lwm2m.NewPath(3303, 0, 5700)
	sensor := lwm2m.NewValueObject(lwm2m.ValueObjectConfig{ID: 3303, Values: []lwm2m.Entry{{Path: temperature, Value: lwm2m.Float(21)}}})
	client, err := lwm2m.NewClient(lwm2m.ClientConfig{Endpoint: "dev", Server: s.coap(), Objects: []lwm2m.Object{sensor}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- client.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-ended)
	}()
	django.await("10240/0", "composite", "10240/2")
	set := func(v float64) { sensor.Set(temperature, lwm2m.Float(v)) }
	require.Eventually(t, func() bool { // once it is observed
		set(float64(time.Now().UnixMilli()%1000) / 8)
		return strings.Contains(strings.Join(django.list(), " "), "3303/5700")
	}, 20*time.Second, 100*time.Millisecond)
	set(999)
	django.await("3303/5700=999.0") // and with it all values before

	block := make(chan struct{})
	django.mu.Lock()
	django.block = block
	django.mu.Unlock()
	set(1000)
	django.await("3303/5700=1000.0")
	django.mu.Lock()
	django.block = nil
	django.mu.Unlock()
	for v := 1001.0; v < 1004; v++ {
		set(v)
		require.Eventually(t, func() bool {
			file, err := os.ReadFile(filepath.Join(data, "leshan.log"))
			return err == nil && strings.Contains(string(file), fmt.Sprintf(`"%.1f"`, v))
		}, 20*time.Second, 10*time.Millisecond)
	}
	require.NoError(t, s.cmd.Process.Kill())
	<-s.done
	close(block)
	django.server.Close()

	again := start(strings.TrimPrefix(s.coap(), "coap://"))
	require.Eventually(t, func() bool { return strings.Contains(again.text(), "Django is not reachable; posts wait") },
		20*time.Second, 10*time.Millisecond)
	django.open()
	defer django.server.Close()
	django.await("3303/5700=1000.0", "3303/5700=1001.0", "3303/5700=1002.0", "3303/5700=1003.0")
	require.Contains(t, again.text(), "what became of a post is unknown; it is not repeated")

	// The API answers, at the address that the log names.
	answer, err := http.Get(again.urls["http Django of flownexus"] + "/api/clients/dev/3303/0/5700")
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), `"value":"1003.0"`)
}

// The flags of the bridge refuse what cannot work, or what anyone could reach.
func TestLeshanFlags(t *testing.T) {
	for flags, want := range map[string]string{
		"-leshan-api 127.0.0.1:8080": "need -leshan-sink",
		"-leshan-504":                "need -leshan-sink",
		"-leshan-sink ftp://x":       "is not a base URL",
		"-leshan-sink http://127.0.0.1:8000 -leshan-api 0.0.0.0:0":              "neither loopback nor in a private network",
		"-leshan-sink http://127.0.0.1:8000 -leshan-follow x":                   "-leshan-follow",
		"-leshan-sink http://127.0.0.1:8000 -leshan-types testdata/none.json":   "-leshan-types",
		"-leshan-sink http://127.0.0.1:8000 -leshan-follow /3303/0/5700,/3,/5/": "-leshan-follow",
	} {
		_, err := command(t, append(strings.Fields(flags), "-data", t.TempDir(), "-coap", "127.0.0.1:0", "-http", "127.0.0.1:0", "-fw-http", "127.0.0.1:0")...)
		require.ErrorContains(t, err, want, flags)
	}
}
