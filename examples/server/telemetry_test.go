package main

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/otago-iot/otago/examples/internal/demo"
	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/firmware/telemetry"
)

// A traceCollector receives spans by OTLP over HTTP.
type traceCollector struct {
	mu    sync.Mutex
	spans map[string][]*tracev1.Span // by trace
}

func (c *traceCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = unzipped
	}
	data, err := io.ReadAll(body)
	var request collector.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(data, &request) != nil {
		http.Error(w, "not understood", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range request.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				id := hex.EncodeToString(span.TraceId)
				c.spans[id] = append(c.spans[id], span)
			}
		}
	}
	answer, err := proto.Marshal(&collector.ExportTraceServiceResponse{})
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(answer)
}

func (c *traceCollector) of(update string) []*tracev1.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spans[telemetry.TraceID(update).String()]
}

// metrics reads the page of metrics.
func (s *server) metrics(t *testing.T, token string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(s.api(), "/api/v1")+"/metrics", nil)
	require.NoError(t, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(data)
}

// TestTelemetry has a collector that receives the trace of an update by OTLP, and reads the metrics
// as Prometheus does.
func TestTelemetry(t *testing.T) {
	c := &traceCollector{spans: map[string][]*tracev1.Span{}}
	endpoint := httptest.NewServer(c)
	defer endpoint.Close()
	s := startServer(t, "-data", t.TempDir(), "-otlp", endpoint.URL+"/v1/traces", "-otlp-requests")
	stop := startDevice(t, "sensor-1", s.coap(), device.Config{})
	image := s.upload("1.1.0", demo.Image("1.1.0", 100_000))
	u := s.await(s.start(`{"endpoint":"sensor-1","image":%q,"delivery":"push"}`, image).ID, ended)
	require.Equal(t, "succeeded", u.Outcome)

	var page string
	for _, line := range []string{
		`otago_updates_ended_total{otago_image_name="demo",otago_image_version="1.1.0",otago_update_outcome="succeeded",otago_update_reason="version",otago_update_result="success"} 1`,
		`otago_devices_registered{otago_device_state="listening"} 1`,
		`otago_transfer_bytes_total{otago_delivery="push"} 100000`,
		`otago_updates_active{otago_update_phase="waiting"} 0`,
		`otago_update_phase_duration_seconds_count{otago_update_phase="transferring"} 1`,
	} {
		require.Eventually(t, func() bool { // hooks run beside the update
			var status int
			status, page = s.metrics(t, "")
			return status == http.StatusOK && strings.Contains(page, line+"\n")
		}, 20*time.Second, 20*time.Millisecond, "%s is not in %s", line, &page)
	}
	require.NotContains(t, page, "sensor-1")

	// The rules of doc/operations.md use metrics that there are.
	rules, err := os.ReadFile("../../doc/operations.md")
	require.NoError(t, err)
	known := regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(page, -1)
	names := map[string]bool{"otago_store_retries_total": true, "otago_drops_total": true, "otago_handshakes_total": true, "otago_registrations_refused_total": true, "otago_rollouts_active": true}
	for _, m := range known {
		names[m[1]] = true
		if m[2] == "histogram" {
			names[m[1]+"_bucket"], names[m[1]+"_sum"], names[m[1]+"_count"] = true, true, true
		}
	}
	used := regexp.MustCompile(`\b(?:otago|rpc)_[a-z_]+\b`).FindAllString(regexp.MustCompile(`\{[^}]*\}|by \([^)]*\)`).ReplaceAllString(string(rules), ""), -1)
	require.NotEmpty(t, used)
	for _, name := range used {
		require.True(t, names[name], "%s of doc/operations.md is no metric", name)
	}

	stop()
	require.Equal(t, 0, s.stop(), s.text()) // it sends what is left
	spans := map[string]*tracev1.Span{}
	for _, span := range c.of(u.ID) {
		spans[span.Name] = span
	}
	require.Contains(t, spans, "update")
	require.Contains(t, spans, "attempt")
	require.Contains(t, spans, "write-stream")
	require.Equal(t, spans["update"].SpanId, spans["attempt"].ParentSpanId)
	require.Equal(t, spans["attempt"].SpanId, spans["write-stream"].ParentSpanId)
	require.Equal(t, tracev1.Span_SPAN_KIND_CLIENT, spans["write-stream"].Kind)
	require.Positive(t, spans["attempt"].EndTimeUnixNano-spans["attempt"].StartTimeUnixNano)
}

// TestMetricsNeedTheToken: the metrics are for operators, as the API is.
func TestMetricsNeedTheToken(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("secret\n"), 0o600))
	s := startServer(t, "-data", t.TempDir(), "-api-token-file", token)
	status, page := s.metrics(t, "")
	require.Equal(t, http.StatusUnauthorized, status)
	require.NotContains(t, page, "otago_")
	status, page = s.metrics(t, "secret")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, page, "otago_devices_registered")
}

// TestTelemetryWithoutCollector: a collector that is not there harms nothing.
func TestTelemetryWithoutCollector(t *testing.T) {
	if testing.Short() {
		t.Skip("the server tries for 5 s to send what is left")
	}
	s := startServer(t, "-data", t.TempDir(), "-otlp", "http://127.0.0.1:1/v1/traces")
	stop := startDevice(t, "sensor-1", s.coap(), device.Config{})
	image := s.upload("1.1.0", demo.Image("1.1.0", 1000))
	u := s.await(s.start(`{"endpoint":"sensor-1","image":%q}`, image).ID, ended)
	require.Equal(t, "succeeded", u.Outcome)
	stop()
	require.Equal(t, 0, s.stop(), s.text())
}
