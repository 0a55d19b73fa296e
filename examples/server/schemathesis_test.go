package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/device"
)

// TestSchemathesis lets an API tester, schemathesis (https://schemathesis.io), call the operators'
// API by its description for so many seconds as the variable OTAGO_SCHEMATHESIS has: valid
// requests, wrong ones, and chains of calls. It must find no failure of the server, no answer that
// the description does not allow, and no wrong request that is accepted. Less than a minute is for
// the requests that follow from the description; random ones come in longer runs only.
func TestSchemathesis(t *testing.T) {
	seconds, err := strconv.Atoi(os.Getenv("OTAGO_SCHEMATHESIS"))
	if err != nil || seconds <= 0 {
		t.Skip("OTAGO_SCHEMATHESIS is not a number of seconds")
	}
	const token = "a-token-of-some-length-for-a-test"
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens")
	require.NoError(t, os.WriteFile(tokens, []byte("tester "+token+"\n"), 0o600))
	s := startServer(t, "-data", filepath.Join(dir, "data"), "-store", "memory:", "-api-token-file", tokens)
	s.token = token
	for i := range 3 {
		startDevice(t, fmt.Sprintf("sensor-%d", i+1), s.coap(), device.Config{})
	}
	// What there is when it begins, so that not all is "not found". What is used stays.
	image := s.upload("1.1.0", []byte("an image that no device takes"))
	kept := s.start(`{"endpoint":"away","image":%q,"labels":{"site":"north"}}`, image)
	status, rollout := call[struct{ ID string }](s, http.MethodPost, "/rollouts", "application/json",
		strings.NewReader(fmt.Sprintf(`{"image":%q,"targets":{"endpoints":["sensor-2","away-2"]}}`, image)))
	require.Equal(t, http.StatusCreated, status)

	// An observation does not end, nor does the stream of all events.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "schemathesis.toml"), fmt.Appendf(nil, `[parameters]
"path.endpoint" = "sensor-1"
"path.image" = %q
"path.update" = %q
"path.rollout" = %q
"query.observe" = false
`, image, kept.ID, rollout.ID), 0o600))
	phases := "examples,coverage"
	if seconds >= 60 {
		phases += ",fuzzing,stateful"
	}
	tester := exec.CommandContext(t.Context(), "python3", "-m", "schemathesis.cli", "run", s.api()+"/openapi.yaml",
		"--header", "Authorization: Bearer "+token, "--exclude-operation-id", "streamEvents", "--continue-on-failure", "--phases", phases,
		"--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"+
			"response_schema_conformance,negative_data_rejection",
		"--suppress-health-check", "all", "--warnings", "off", "--request-timeout", "45", "--seed", "14", "--no-color",
		"--max-time", strconv.Itoa(seconds), "--workers", "1")
	tester.Dir = dir
	tester.WaitDelay = time.Second
	out, err := tester.CombinedOutput()
	if err != nil && os.Getenv("CI") == "" && strings.Contains(string(out), "No module named") {
		t.Skip("schemathesis is not installed")
	}
	t.Logf("%s", out)
	require.NoError(t, err)
	require.NotContains(t, s.text(), "level=ERROR")
	require.Zero(t, s.stop())
}
