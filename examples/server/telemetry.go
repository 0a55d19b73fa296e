package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/otago-iot/otago/examples/internal/backend"
	"github.com/otago-iot/otago/firmware/telemetry"
)

// traceOptions say where traces go.
type traceOptions struct {
	url      string // of a collector
	requests bool
}

// on reports whether there is a collector: that of the flag, or of OpenTelemetry's own variables,
// which also say headers, certificates and others.
func (o traceOptions) on() bool {
	return o.url != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// withTelemetry adds metrics, for Prometheus, and traces to a backend. end sends what is left.
func withTelemetry(ctx context.Context, config *backend.Config, o traceOptions) (end func() error, err error) {
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return nil, err
	}
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithResource(about))
	var tracers trace.TracerProvider = noop.NewTracerProvider()
	stop := func(context.Context) error { return nil }
	if o.on() {
		var options []otlptracehttp.Option
		if o.url != "" {
			options = append(options, otlptracehttp.WithEndpointURL(o.url))
		}
		spans, err := otlptracehttp.New(ctx, options...)
		if err != nil {
			return nil, err
		}
		provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(spans), sdktrace.WithIDGenerator(telemetry.IDs{}), sdktrace.WithResource(about))
		tracers, stop = provider, provider.Shutdown
	}
	config.Telemetry, err = telemetry.New(telemetry.Config{MeterProvider: meters, TracerProvider: tracers, Requests: o.requests})
	if err != nil {
		return nil, err
	}
	config.Metrics = promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return errors.Join(config.Telemetry.Close(), stop(ctx), meters.Shutdown(ctx))
	}, nil
}
