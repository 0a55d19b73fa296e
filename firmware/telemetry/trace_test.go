package telemetry_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/telemetry"
)

// value returns an attribute of a span as text, "" if it has none.
func value(s tracetest.SpanStub, key string) string {
	for _, kv := range s.Attributes {
		if kv.Key == attribute.Key(key) {
			return kv.Value.String()
		}
	}
	return ""
}

// named returns the spans of a name, in the order of their begins.
func named(spans tracetest.SpanStubs, name string) (found tracetest.SpanStubs) {
	for _, s := range spans {
		if s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

// TestTrace has an update whose first attempt fails, and whose server restarts before the second.
// It is one trace with both attempts, by the times of the journal.
func TestTrace(t *testing.T) {
	for _, requests := range []bool{false, true} {
		inWorld(t, telemetry.Config{Requests: requests}, func(w *world) {
			var pushes atomic.Int64
			script := good
			script.Pushed = func(int64) firmware.Result {
				if pushes.Add(1) == 1 {
					return firmware.ResultOutOfMemory
				}
				return 0
			}
			u := w.update(w.device(1, script), w.image)
			time.Sleep(10 * time.Second)
			require.Equal(t, int64(1), pushes.Load())
			require.Empty(t, w.spans.GetSpans(), "an update that runs is not in the traces")
			w.stop()
			time.Sleep(time.Minute)
			w.start()
			u = w.ends(u, firmware.OutcomeSucceeded)

			spans := w.spans.GetSpans()
			root, attempts := named(spans, "update"), named(spans, "attempt")
			require.Len(t, root, 1)
			require.Len(t, attempts, 2)
			require.Equal(t, telemetry.TraceID(u.ID), root[0].SpanContext.TraceID())
			require.False(t, root[0].Parent.IsValid())
			require.Equal(t, u.Machine.Created, root[0].StartTime.UTC())
			require.Equal(t, u.Machine.Ended, root[0].EndTime.UTC())
			require.Equal(t, codes.Unset, root[0].Status.Code)
			require.Equal(t, u.ID, value(root[0], "otago.update.id"))
			require.Equal(t, "dev001", value(root[0], "otago.endpoint"))
			require.Equal(t, "succeeded", value(root[0], "otago.update.outcome"))
			require.Equal(t, "2", value(root[0], "otago.update.attempts"))
			var lines []firmware.Event
			for line, err := range w.mgr.Journal(w.ctx, u.ID) {
				require.NoError(t, err)
				lines = append(lines, line)
			}
			var events int
			for i, a := range attempts {
				require.Equal(t, root[0].SpanContext.TraceID(), a.SpanContext.TraceID())
				require.Equal(t, root[0].SpanContext.SpanID(), a.Parent.SpanID())
				require.Equal(t, "push", value(a, "otago.delivery"))
				require.Equal(t, "push", a.Events[0].Name)
				require.Equal(t, a.StartTime, a.Events[0].Time)
				require.Equal(t, []string{"retry", "succeeded"}[i], a.Events[len(a.Events)-1].Name)
				require.Equal(t, a.EndTime, a.Events[len(a.Events)-1].Time)
				events += len(a.Events)
			}
			require.Equal(t, len(lines), events+len(root[0].Events))
			require.Equal(t, codes.Error, attempts[0].Status.Code)
			require.Contains(t, attempts[0].Status.Description, "out_of_mem")
			require.Equal(t, codes.Unset, attempts[1].Status.Code)
			require.Equal(t, "5000", value(attempts[1], "otago.transfer.bytes"))

			executes := named(spans, "execute")
			if !requests {
				require.Len(t, spans, 3)
				return
			}
			require.Len(t, executes, 1)
			require.Equal(t, attempts[1].SpanContext.SpanID(), executes[0].Parent.SpanID())
			require.Equal(t, trace.SpanKindClient, executes[0].SpanKind)
			require.Equal(t, "coap", value(executes[0], "rpc.system.name"))
			require.Len(t, named(spans, "write-stream"), 1, "that of the process which ended before the update is left out")
			ids := map[trace.SpanID]bool{}
			for _, s := range spans {
				require.Equal(t, root[0].SpanContext.TraceID(), s.SpanContext.TraceID())
				ids[s.SpanContext.SpanID()] = true
			}
			require.Len(t, ids, len(spans))
		})
	}
}

// TestTraceOfFailure: the spans of an update that fails say so.
func TestTraceOfFailure(t *testing.T) {
	inWorld(t, telemetry.Config{}, func(w *world) {
		script := good
		script.Pushed = func(int64) firmware.Result { return firmware.ResultUnsupFirmware }
		w.ends(w.update(w.device(1, script), w.image), firmware.OutcomeFailed)
		for _, s := range w.spans.GetSpans() {
			require.Equal(t, codes.Error, s.Status.Code)
			require.Equal(t, "device_result", s.Status.Description)
		}
		require.Len(t, w.spans.GetSpans(), 2)
	})
}

// TestTraceWithoutIDs: with the generator of the SDK an update is one trace too.
func TestTraceWithoutIDs(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	inWorld(t, telemetry.Config{TracerProvider: provider, Requests: true}, func(w *world) {
		w.ends(w.update(w.device(1, good), w.image), firmware.OutcomeSucceeded)
		spans := exporter.GetSpans()
		require.Greater(t, len(spans), 4)
		for _, s := range spans {
			require.Equal(t, spans[0].SpanContext.TraceID(), s.SpanContext.TraceID())
		}
	})
}

// TestIDs: spans of others get random ids, also below the span of an update.
func TestIDs(t *testing.T) {
	var ids telemetry.IDs
	seen := map[any]bool{}
	for range 1000 {
		in, span := ids.NewIDs(t.Context())
		require.True(t, in.IsValid() && span.IsValid())
		seen[in], seen[span] = true, true
		next := ids.NewSpanID(t.Context(), in)
		require.True(t, next.IsValid())
		seen[next] = true
	}
	require.Len(t, seen, 3000)
}

// broken is a span processor that panics or blocks.
type broken struct{ misbehave func() }

func (b broken) OnStart(context.Context, sdktrace.ReadWriteSpan) { b.misbehave() }
func (b broken) OnEnd(sdktrace.ReadOnlySpan)                     { b.misbehave() }
func (broken) Shutdown(context.Context) error                    { return nil }
func (broken) ForceFlush(context.Context) error                  { return nil }

// TestBrokenSDK: a processor that panics or blocks harms no update.
func TestBrokenSDK(t *testing.T) {
	for name, misbehave := range map[string]func(){
		"panics": func() { panic("a bug of the program") },
		"blocks": func() { time.Sleep(time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(broken{misbehave}))
			inWorld(t, telemetry.Config{TracerProvider: provider, Requests: true}, func(w *world) {
				var updates []firmware.Update
				for n := range 50 {
					updates = append(updates, w.update(w.device(n+1, good), w.image))
				}
				began := time.Now()
				for _, u := range updates {
					ctx, cancel := context.WithTimeout(w.ctx, time.Hour)
					u, err := w.mgr.Wait(ctx, u.ID)
					cancel()
					require.NoError(t, err)
					require.Equal(t, firmware.OutcomeSucceeded, u.Outcome())
				}
				require.Less(t, time.Since(began), 5*time.Minute)
				w.stop()
				time.Sleep(2 * time.Hour) // until none blocks
			})
		})
	}
}
