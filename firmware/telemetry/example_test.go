package telemetry_test

import (
	"context"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/telemetry"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store/memory"
)

// A server with metrics and traces. The program chooses the exporters, and ends the provider after
// the manager has ended.
func Example() {
	err := func(ctx context.Context, exporter sdktrace.SpanExporter) error {
		provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithIDGenerator(telemetry.IDs{}))
		defer func() { _ = provider.Shutdown(context.WithoutCancel(ctx)) }()
		t, err := telemetry.New(telemetry.Config{TracerProvider: provider})
		if err != nil {
			return err
		}
		defer t.Close()
		db := memory.New()
		records := t.Store(db)
		images, err := firmware.OpenRepository("images", records, firmware.RepositoryConfig{})
		if err != nil {
			return err
		}
		srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(records), Hooks: t.ServerHooks()})
		if err != nil {
			return err
		}
		mgr, err := firmware.NewManager(srv, records, images, firmware.ManagerConfig{Hooks: t.Hooks()})
		if err != nil {
			return err
		}
		rollouts, err := rollout.NewManager(srv, mgr, t.Rollouts(db), rollout.Config{})
		if err != nil {
			return err
		}
		t.Observe(srv, mgr, rollouts)
		go rollouts.Run(ctx)
		go srv.ListenAndServe(ctx, "coap://127.0.0.1:5683")
		return mgr.Run(ctx)
	}
	_ = err
}
