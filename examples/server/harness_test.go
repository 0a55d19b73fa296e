package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/demo"
	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store/postgres"
)

// ungatedEnv lets the server send when its lease is over, too.
const ungatedEnv = "OTAGO_TEST_UNGATED"

// TestMain lets the test binary run as the server.
func TestMain(m *testing.M) {
	if os.Getenv("OTAGO_TEST_IS_SERVER") != "" {
		if os.Getenv(ungatedEnv) != "" {
			gateOf = func(*postgres.Store) func() bool { return nil }
		}
		main()
	}
	os.Exit(m.Run())
}

// command runs a sub-command in this process.
func command(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	var out, errOut bytes.Buffer
	err = run(t.Context(), args, environment{func(string) (string, bool) { return "", false }, &out, &errOut})
	return out.String(), err
}

// server is a server process.
type server struct {
	t    *testing.T
	cmd  *exec.Cmd
	urls map[string]string // by scheme and purpose

	token string // for the API, if it needs one

	ready chan struct{} // closed when it listens
	done  chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

var listening = regexp.MustCompile(`msg=listening for=("[^"]*"|\S+) url=(\S+)`)

// startServer starts a server on free ports of loopback, and returns once it listens. flags
// override the defaults.
func startServer(t *testing.T, flags ...string) *server {
	t.Helper()
	s := launchServer(t, flags...)
	s.awaitListening()
	return s
}

// launchServer starts a server that may not listen for a while.
func launchServer(t *testing.T, flags ...string) *server {
	t.Helper()
	return launchServerIn(t, nil, flags...)
}

// launchServerIn adds to the environment of the server.
func launchServerIn(t *testing.T, env []string, flags ...string) *server {
	t.Helper()
	flags = append([]string{"-coap", "127.0.0.1:0", "-http", "127.0.0.1:0", "-fw-http", "127.0.0.1:0"}, flags...)
	s := &server{t: t, cmd: exec.Command(os.Args[0], flags...), urls: map[string]string{}, ready: make(chan struct{}), done: make(chan struct{})}
	s.cmd.Env = append(append(os.Environ(), "OTAGO_TEST_IS_SERVER=1"), env...)
	stderr, err := s.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, s.cmd.Start())
	go func() {
		defer close(s.done)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			s.mu.Lock()
			s.log.WriteString(lines.Text() + "\n")
			s.mu.Unlock()
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				scheme, _, _ := strings.Cut(m[2], ":")
				s.urls[scheme+" "+strings.Trim(m[1], `"`)] = m[2]
				if m[1] == "operators" { // the last line
					close(s.ready)
				}
			}
		}
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.done
		_ = s.cmd.Wait()
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.text())
		}
	})
	return s
}

func (s *server) awaitListening() {
	s.t.Helper()
	select {
	case <-s.ready:
	case <-s.done:
		require.FailNow(s.t, "the server ended", s.text())
	case <-time.After(30 * time.Second):
		require.FailNow(s.t, "the server does not listen", s.text())
	}
}

func (s *server) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

func (s *server) coap() string     { return s.urls["coap devices, without security"] }
func (s *server) packages() string { return s.urls["http packages"] }
func (s *server) api() string      { return strings.TrimSuffix(s.urls["http operators"], "/") }

// stop sends SIGTERM to the server, and returns its exit status.
func (s *server) stop() int {
	s.t.Helper()
	require.NoError(s.t, s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.done:
	case <-time.After(20 * time.Second):
		require.FailNow(s.t, "the server does not stop")
	}
	_ = s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode()
}

// call sends a request and decodes the answer.
func call[T any](s *server, method, path, contentType string, body io.Reader) (status int, answer T) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.api()+path, body)
	require.NoError(s.t, err)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if s.token != "" {
		r.Header.Set("Authorization", "Bearer "+s.token)
	}
	response, err := http.DefaultClient.Do(r)
	require.NoError(s.t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	require.NoError(s.t, json.Unmarshal(data, &answer), "%s", data)
	return response.StatusCode, answer
}

func (s *server) upload(version string, content []byte) (id string) {
	s.t.Helper()
	status, image := call[struct{ ID string }](s, http.MethodPost, "/images?name=demo&version="+version,
		"application/octet-stream", bytes.NewReader(content))
	require.Equal(s.t, http.StatusCreated, status)
	return image.ID
}

// update is an update as the API returns it.
type update struct {
	ID, Endpoint, Phase, State, Outcome, Reason, Detail string
	OldVersion                                          string `json:"old_version"`
	Result                                              struct{ Name string }
	Progress                                            struct{ Bytes, Total int64 }
	WaitingFor                                          struct{ Reason, Whose string } `json:"waiting_for"`
	Journal                                             []struct{ Event, Detail string }
}

func (s *server) start(fields string, args ...any) update {
	s.t.Helper()
	status, u := call[update](s, http.MethodPost, "/updates", "application/json", strings.NewReader(fmt.Sprintf(fields, args...)))
	require.Equal(s.t, http.StatusCreated, status, u.Detail)
	return u
}

// await polls an update until wanted returns true. A server that has lost its store for a while
// answers nothing meanwhile.
func (s *server) await(id string, wanted func(update) bool) (u update) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		answer, err := http.Get(s.api() + "/updates/" + id)
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		u = update{}
		return json.NewDecoder(answer.Body).Decode(&u) == nil && wanted(u)
	}, 2*time.Minute, 20*time.Millisecond, "the update does not get there: %+v", &u)
	return u
}

func ended(u update) bool { return u.Outcome != "" }

// startDevice runs a demo device in this process until the test ends or stop is called. Call stop
// while its server runs, because the device waits for the answer to its De-register.
func startDevice(t *testing.T, endpoint, server string, config device.Config) (stop func()) {
	t.Helper()
	return startClient(t, lwm2m.ClientConfig{Endpoint: endpoint, Server: server, Lifetime: time.Minute}, config)
}

func startClient(t *testing.T, client lwm2m.ClientConfig, config device.Config) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	device := demo.Device{
		Client: client, Firmware: config, Dir: filepath.Join(t.TempDir(), "device"), Version: "1.0.0",
	}
	go func() { done <- device.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}
