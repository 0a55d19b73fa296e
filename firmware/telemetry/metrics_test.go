package telemetry_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/telemetry"
	"github.com/otago-iot/otago/lwm2m"
)

var encoder = attribute.DefaultEncoder()

// TestMetrics has good and bad devices, and one that never comes, and looks at every metric.
func TestMetrics(t *testing.T) {
	inWorld(t, telemetry.Config{}, func(w *world) {
		w.ends(w.update(w.device(1, good), w.image), firmware.OutcomeSucceeded)
		bad := good
		bad.Pushed = func(int64) firmware.Result { return firmware.ResultUnsupFirmware }
		w.ends(w.update(w.device(2, bad), w.image), firmware.OutcomeFailed)
		w.update("absent", w.image)
		zero := 0.0
		_, err := w.rollouts.Create(w.ctx, rollout.Request{Image: w.image.ID, Targets: rollout.Endpoints("a", "b"), MaxFailure: &zero, Start: true})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		synctest.Wait()
		m := w.metrics()
		require.Equal(t, map[string]int64{"": 3}, m["otago.updates.started"])
		ended := ",otago.image.name=sensor,otago.image.version=1.1.0,otago.update."
		require.Equal(t, map[string]int64{
			strings.TrimPrefix(ended, ",") + "outcome=succeeded,otago.update.reason=version,otago.update.result=success":     1,
			strings.TrimPrefix(ended, ",") + "outcome=failed,otago.update.reason=device_result,otago.update.result=unsup_fw": 1,
		}, m["otago.updates.ended"])
		require.Equal(t, int64(1), m["otago.updates.active"]["otago.update.phase=waiting"])
		require.Equal(t, map[string]int64{"otago.update.outcome=succeeded": 1, "otago.update.outcome=failed": 1}, m["otago.update.duration"])
		require.Equal(t, map[string]int64{
			"otago.update.phase=waiting": 2, "otago.update.phase=preparing": 2, "otago.update.phase=transferring": 2,
			"otago.update.phase=executing": 1, "otago.update.phase=verifying": 1,
		}, m["otago.update.phase.duration"])
		require.Equal(t, map[string]int64{"otago.delivery=push": 10_000}, m["otago.transfer.bytes"])
		require.Equal(t, int64(2), m["rpc.client.call.duration"]["rpc.method=write-stream,rpc.response.status_code=2.04,rpc.system.name=coap"])
		require.Equal(t, int64(1), m["rpc.client.call.duration"]["rpc.method=execute,rpc.response.status_code=2.04,rpc.system.name=coap"])
		require.Equal(t, int64(1), m["otago.request.wait.duration"]["rpc.method=execute"])
		require.Equal(t, map[string]int64{"otago.request.state=waiting": 0, "otago.request.state=under_way": 0}, m["otago.requests"])
		require.Equal(t, int64(2), m["otago.devices.registered"]["otago.device.state=listening"])
		require.GreaterOrEqual(t, m["otago.registrations"]["otago.registration.event=registered"], int64(2))
		require.Positive(t, m["otago.store.commit.duration"][""])
		require.Equal(t, map[string]int64{"otago.rollout.reason=,otago.rollout.state=running": 1}, m["otago.rollouts.active"])
		var members int64
		for at, n := range m["otago.rollout.members"] {
			members += n
			require.Contains(t, at, "otago.rollout.id=0")
		}
		require.Equal(t, int64(2), members)
		for name, points := range m {
			for at := range points {
				require.NotContains(t, at, "dev0", "%s has the name of a device", name)
				require.NotContains(t, at, "absent", "%s has the name of a device", name)
			}
		}
		for name, points := range m {
			for at := range points {
				for _, attribute := range regexp.MustCompile(`([a-z._]+)=`).FindAllStringSubmatch(at, -1) {
					require.Contains(t, documented(t)[name], attribute[1], name)
				}
			}
		}
	})
}

// documented returns the metrics of doc/compatibility.md with their attributes.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("../../doc/compatibility.md")
	if os.IsNotExist(err) {
		t.Skip("this test is about the repository, with its documents")
	}
	require.NoError(t, err)
	_, table, found := strings.Cut(string(page), "| metric |")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n\n")
	metrics := map[string][]string{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		words := regexp.MustCompile("`([a-z._]+)`")
		if name := words.FindStringSubmatch(cells[1]); name != nil {
			metrics[name[1]] = []string{}
			for _, m := range words.FindAllStringSubmatch(cells[3], -1) {
				metrics[name[1]] = append(metrics[name[1]], m[1])
			}
		}
	}
	return metrics
}

// names is a meter that records what is made.
type names struct {
	noop.Meter
	found []string
}

type namesProvider struct {
	noop.MeterProvider
	names *names
}

func (p namesProvider) Meter(string, ...metric.MeterOption) metric.Meter { return p.names }

func (n *names) Int64Counter(name string, _ ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	n.found = append(n.found, name)
	return noop.Int64Counter{}, nil
}

func (n *names) Float64Histogram(name string, _ ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	n.found = append(n.found, name)
	return noop.Float64Histogram{}, nil
}

func (n *names) Int64ObservableCounter(name string, _ ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	n.found = append(n.found, name)
	return noop.Int64ObservableCounter{}, nil
}

func (n *names) Int64ObservableUpDownCounter(
	name string, _ ...metric.Int64ObservableUpDownCounterOption,
) (metric.Int64ObservableUpDownCounter, error) {
	n.found = append(n.found, name)
	return noop.Int64ObservableUpDownCounter{}, nil
}

// TestNames compares the metrics, the spans and their attributes with doc/compatibility.md.
func TestNames(t *testing.T) {
	n := &names{}
	_, err := telemetry.New(telemetry.Config{MeterProvider: namesProvider{names: n}})
	require.NoError(t, err)
	var want []string
	for name := range documented(t) {
		want = append(want, name)
	}
	require.ElementsMatch(t, want, n.found)

	page, err := os.ReadFile("../../doc/compatibility.md")
	require.NoError(t, err)
	for _, file := range []string{"metrics.go", "trace.go"} {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?m)^\t(?:key\w+ += attribute\.Key\("|span\w+ += ")([a-z._]+)"`).FindAllStringSubmatch(string(source), -1) {
			require.Contains(t, string(page), "`"+m[1]+"`", "%s of %s", m[1], file)
		}
	}
}

// TestImages: the images of which updates ended last have series of their own, and no count falls.
func TestImages(t *testing.T) {
	inWorld(t, telemetry.Config{MaxImages: 2}, func(w *world) {
		bad := firmwaretest.Script{Pushed: func(int64) firmware.Result { return firmware.ResultUnsupFirmware }}
		endpoint := w.device(1, bad)
		var before int64
		for i, version := range []string{"1.1.0", "1.2.0", "1.3.0", "1.1.0", "1.4.0"} {
			image := w.image
			if version != newVersion {
				image = w.add("sensor", version)
			}
			w.ends(w.update(endpoint, image), firmware.OutcomeFailed)
			points := w.metrics()["otago.updates.ended"]
			require.LessOrEqual(t, len(points), 3)
			sum, others := int64(0), int64(0)
			for at, n := range points {
				sum += n
				if strings.Contains(at, "=other") {
					others = n
				}
			}
			require.Equal(t, int64(i+1), sum)
			require.GreaterOrEqual(t, others, before)
			before = others
			require.True(t, slices.ContainsFunc(keys(points), func(at string) bool { return strings.Contains(at, "version="+version) }))
		}
	})
}

func keys(m map[string]int64) (list []string) {
	for k := range m {
		list = append(list, k)
	}
	return list
}

// TestGlobals: the zero Config takes the providers of package otel, which do nothing by default.
func TestGlobals(t *testing.T) {
	tel, err := telemetry.New(telemetry.Config{})
	require.NoError(t, err)
	tel.Hooks().Started(context.Background(), firmware.Update{})
	require.NoError(t, tel.Close())
	require.NoError(t, tel.Close())
	_, err = telemetry.New(telemetry.Config{MaxImages: -1})
	require.Error(t, err)
}

// TestHandshakes: the causes of handshakes that fail are counted apart.
func TestHandshakes(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	tel, err := telemetry.New(telemetry.Config{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))})
	require.NoError(t, err)
	defer tel.Close()
	for _, text := range []string{
		"unknown PSK identity", "keys differ", "handshake error: x509: certificate signed by unknown authority",
		"peer sent alert: bad certificate: handshake error", "no answer within 30s: i/o timeout", "what a stranger sends",
	} {
		tel.ServerHooks().Handshake(lwm2m.TransportDTLS, netip.AddrPort{}, lwm2m.Identity{}, errors.New(text))
	}
	tel.ServerHooks().Handshake(lwm2m.TransportDTLS, netip.AddrPort{}, lwm2m.Identity{}, nil)
	w := &world{t: t, ctx: t.Context(), reader: reader}
	of := ",otago.transport=coaps"
	require.Equal(t, map[string]int64{
		"error.type=unknown_identity" + of: 1, "error.type=wrong_key" + of: 1, "error.type=certificate" + of: 1,
		"error.type=refused_by_peer" + of: 1, "error.type=timeout" + of: 1, "error.type=other" + of: 1, "otago.transport=coaps": 1,
	}, w.metrics()["otago.handshakes"])
}
