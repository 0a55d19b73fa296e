package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/demo"
	"github.com/otago-iot/otago/firmware/device"
)

// aRollout is a rollout as the API returns it.
type aRollout struct {
	ID, State, Reason, Cause, Detail string
	Members                          map[string]int
	Waiting                          struct{ Reasons map[string]int }
	Stage                            int
}

// recipe returns a recipe of doc/rollouts.md, by its name, for an image. The waits are shortened.
func recipe(t *testing.T, name, image string) string {
	t.Helper()
	doc, err := os.ReadFile("../../doc/rollouts.md")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(string(doc), -1) {
		if strings.Contains(m[1], `"name": "`+name+`"`) {
			return strings.NewReplacer(`"ID"`, `"`+image+`"`, `"30m"`, `"1s"`, `"1h"`, `"1s"`, `"rate": 10`, `"rate": 600`).Replace(m[1])
		}
	}
	require.Fail(t, "doc/rollouts.md has no such recipe", name)
	return ""
}

func (s *server) rollOut(body string) aRollout {
	s.t.Helper()
	status, r := call[aRollout](s, http.MethodPost, "/rollouts", "application/json", strings.NewReader(body))
	require.Equal(s.t, http.StatusCreated, status, r.Detail)
	return r
}

func (s *server) awaitRollout(id string, wanted func(aRollout) bool) (r aRollout) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		_, r = call[aRollout](s, http.MethodGet, "/rollouts/"+id, "", nil)
		return wanted(r)
	}, 3*time.Minute, 50*time.Millisecond, "the rollout does not get there")
	return r
}

func (s *server) post(path, body string) {
	s.t.Helper()
	status, answer := call[map[string]any](s, http.MethodPost, path, "application/json", strings.NewReader(body))
	require.Equal(s.t, http.StatusOK, status, "%v", answer)
}

func over(r aRollout) bool { return r.State == "ended" }

// devices starts devices, and waits until the server has read them.
func (s *server) devices(endpoints ...string) {
	s.t.Helper()
	for _, endpoint := range endpoints {
		startDevice(s.t, endpoint, s.coap(), device.Config{})
		require.Eventually(s.t, func() bool {
			_, d := call[struct{ Firmware struct{ Version string } }](s, http.MethodGet, "/devices/"+endpoint, "", nil)
			return d.Firmware.Version == "1.0.0"
		}, 20*time.Second, 20*time.Millisecond)
	}
}

// TestRecipeCanaries: the labelled devices are updated first, then an operator lets the others
// follow.
func TestRecipeCanaries(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := startServer(t, "-data", data)
	s.devices("dev-1", "dev-2", "dev-3", "dev-4")
	status, _ := call[any](s, http.MethodPut, "/devices/dev-3/labels", "application/json", strings.NewReader(`{"canary":"yes"}`))
	require.Equal(t, http.StatusOK, status)
	r := s.rollOut(recipe(t, "canaries, then all", s.upload("1.1.0", demo.Image("1.1.0", 50_000))))
	r = s.awaitRollout(r.ID, func(r aRollout) bool { return strings.Contains(r.Reason, "an operator opens stage 2 of 3") })
	require.Equal(t, 1, r.Members["succeeded"])
	require.Equal(t, map[string]int{"gate": 3}, r.Waiting.Reasons)
	_, members := call[struct{ Items []struct{ Endpoint string } }](s, http.MethodGet, "/rollouts/"+r.ID+"/members?state=succeeded", "", nil)
	require.Equal(t, "dev-3", members.Items[0].Endpoint)
	s.post("/rollouts/"+r.ID+"/open", `{"reason":"looks good"}`)
	r = s.awaitRollout(r.ID, over)
	require.Equal(t, 4, r.Members["succeeded"], "%+v", r)
	require.Equal(t, "done", r.Cause)

	require.Equal(t, 0, s.stop(), s.text())
	out, err := command(t, "export", "-data", data, "-of", "rollouts")
	require.NoError(t, err)
	require.Regexp(t, `\n`+r.ID+`,"canaries, then all",.*,ended,done,"every device has ended: 4 succeeded`, out)
	out, err = command(t, "export", "-data", data, "-of", "members", "-format", "jsonl")
	require.NoError(t, err)
	require.Equal(t, 4, strings.Count(out, `"state":"succeeded"`), out)
	_, err = command(t, "export", "-data", data, "-of", "members", "-format", "table")
	require.ErrorContains(t, err, "-format table")
}

// TestRecipeNight: devices download at once, and install inside the window only.
func TestRecipeNight(t *testing.T) {
	t.Parallel()
	s := startServer(t, "-data", t.TempDir(), "-store", "memory:")
	s.devices("dev-1", "dev-2")
	at := func(hours time.Duration) string { return time.Now().UTC().Add(hours * time.Hour).Format("15:04") }
	body := recipe(t, "only at night", s.upload("1.1.0", demo.Image("1.1.0", 50_000)))
	body = strings.NewReplacer("22:00", at(12), "04:00", at(13)).Replace(body)
	body = strings.Replace(body, `"rate"`, `"stages": [{"size": "100%"}], "rate"`, 1)
	r := s.rollOut(body)
	path := "/rollouts/" + r.ID + "/members?state=active&reason=window"
	require.Eventually(t, func() bool {
		_, page := call[struct {
			Items []struct {
				Place string
				Until time.Time
			}
		}](s, http.MethodGet, path, "", nil)
		return len(page.Items) == 2 && page.Items[0].Place == "ready" && page.Items[0].Until.After(time.Now())
	}, 2*time.Minute, 50*time.Millisecond, "they do not wait for the night")
	status, _ := call[any](s, http.MethodPatch, "/rollouts/"+r.ID, "application/json", strings.NewReader(`{"window":null}`))
	require.Equal(t, http.StatusOK, status)
	r = s.awaitRollout(r.ID, over)
	require.Equal(t, 2, r.Members["succeeded"])
}

// TestRecipeCurrent: a device that joins later is updated too.
func TestRecipeCurrent(t *testing.T) {
	t.Parallel()
	s := startServer(t, "-data", t.TempDir(), "-store", "memory:")
	s.devices("sensor-1")
	body := recipe(t, "keep the fleet current", s.upload("1.1.0", demo.Image("1.1.0", 50_000)))
	r := s.rollOut(strings.Replace(body, `"concurrency"`, `"stages": [{"size": "100%"}], "concurrency"`, 1))
	s.awaitRollout(r.ID, func(r aRollout) bool { return r.Members["succeeded"] == 1 })
	s.devices("sensor-2")
	s.post("/rollouts/"+r.ID+"/members", `{"endpoint":"sensor-2"}`)
	r = s.awaitRollout(r.ID, func(r aRollout) bool { return r.Members["succeeded"] == 2 })
	require.Zero(t, r.Members["failed"])
}

// TestTokensOfOperators: each of several tokens opens the API, and its name is in the journal.
func TestTokensOfOperators(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(file, []byte("kim s3cret\n\nsam 0ther\n"), 0o600))
	s := startServer(t, "-data", t.TempDir(), "-store", "memory:", "-api-token-file", file)
	ask := func(method, path, token, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, s.api()+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+token)
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		if strings.HasPrefix(path, "/images?") {
			r.Header.Set("Content-Type", "application/octet-stream")
		}
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(answer)
	}
	status, _ := ask(http.MethodGet, "/rollouts", "kim", "")
	require.Equal(t, http.StatusUnauthorized, status, "a name is no token")
	status, image := ask(http.MethodPost, "/images?version=2", "s3cret", "image")
	require.Equal(t, http.StatusCreated, status)
	id := regexp.MustCompile(`"id":"(\w+)"`)
	status, made := ask(http.MethodPost, "/rollouts", "0ther", fmt.Sprintf(`{"image":%q,"targets":{"endpoints":["dev"]}}`, id.FindStringSubmatch(image)[1]))
	require.Equal(t, http.StatusCreated, status, made)
	path := "/rollouts/" + id.FindStringSubmatch(made)[1]
	status, kept := ask(http.MethodDelete, "/images/"+id.FindStringSubmatch(image)[1], "0ther", "")
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, kept, "needs it", "the rollout keeps its image")
	status, _ = ask(http.MethodPost, path+"/start", "s3cret", "")
	require.Equal(t, http.StatusOK, status)
	_, lines := ask(http.MethodGet, path+"/events", "0ther", "")
	require.Contains(t, lines, `"actor":"kim"`)
	require.NotContains(t, s.text(), "s3cret")

	require.NoError(t, os.WriteFile(file, []byte("kim s3cret and more\n"), 0o600))
	_, err := command(t, "-data", t.TempDir(), "-store", "memory:", "-coap", "", "-fw-http", "", "-http", "127.0.0.1:0", "-api-token-file", file)
	require.ErrorContains(t, err, "neither a token nor a name and a token")
}
