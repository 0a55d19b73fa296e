package telemetry

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/lwm2m"
)

// The attributes of spans, beside those of metrics.
const (
	keyUpdate   = attribute.Key("otago.update.id")
	keyEndpoint = attribute.Key("otago.endpoint")
	keyImageID  = attribute.Key("otago.image.id")
	keyBefore   = attribute.Key("otago.update.old_version")
	keyAttempts = attribute.Key("otago.update.attempts")
	keyAttempt  = attribute.Key("otago.attempt")
	keyBytes    = attribute.Key("otago.transfer.bytes")
	keyAction   = attribute.Key("otago.action")
	keyDetail   = attribute.Key("otago.journal.detail")
)

// The names of spans; those of requests are their rpc.method.
const (
	spanUpdate  = "update"
	spanAttempt = "attempt"
)

// TraceID returns the id of the trace of an update, if the SDK has [IDs].
func TraceID(update string) (id trace.TraceID) {
	sum := sha256.Sum256([]byte(update))
	copy(id[:], sum[:])
	return id
}

// spanID returns the id of the span of an update, with attempt 0, or of one of its attempts.
func spanID(update string, attempt int) (id trace.SpanID) {
	sum := sha256.Sum256(binary.BigEndian.AppendUint32([]byte(update+" "), uint32(attempt)))
	copy(id[:], sum[:])
	return id
}

// wanted are the ids of the next span.
type wanted struct {
	trace trace.TraceID
	span  trace.SpanID
}

type wantedKey struct{}

// IDs is an IDGenerator for the SDK: sdktrace.WithIDGenerator(telemetry.IDs{}). The spans of a
// [Telemetry] get ids that follow from the id of the update, all others get random ones.
type IDs struct{}

// NewIDs returns the ids of a span that begins a trace.
func (IDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if w, ok := ctx.Value(wantedKey{}).(wanted); ok && w.trace.IsValid() && w.span.IsValid() {
		return w.trace, w.span
	}
	var id trace.TraceID
	for !id.IsValid() {
		binary.BigEndian.PutUint64(id[:8], rand.Uint64())
		binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	}
	return id, randomSpan()
}

// NewSpanID returns the id of a span in a trace.
func (IDs) NewSpanID(ctx context.Context, in trace.TraceID) trace.SpanID {
	if w, ok := ctx.Value(wantedKey{}).(wanted); ok && w.trace == in && w.span.IsValid() {
		return w.span
	}
	return randomSpan()
}

func randomSpan() (id trace.SpanID) {
	for !id.IsValid() {
		binary.BigEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}

// An attemptSpan is what the journal says of an attempt.
type attemptSpan struct {
	n          int
	begin, end time.Time
	delivery   firmware.DeliveryMode
	failed     string // why another attempt, or none, followed; "" for the one that the update ended with
	lines      []firmware.Event
}

// attemptsOf divides a journal into the lines before the first attempt, and the attempts.
func attemptsOf(lines []firmware.Event, end time.Time) (before []firmware.Event, attempts []attemptSpan) {
	open := false
	closeAt := func(at time.Time, why string) {
		if open {
			a := &attempts[len(attempts)-1]
			a.end, a.failed, open = at, why, false
		}
	}
	for _, line := range lines {
		switch line.Name {
		case firmware.EventPush, firmware.EventWriteURI:
			closeAt(line.Time, "another attempt began")
			delivery := firmware.DeliveryPush
			if line.Name == firmware.EventWriteURI {
				delivery = firmware.DeliveryPull
			}
			attempts = append(attempts, attemptSpan{n: len(attempts) + 1, begin: line.Time, delivery: delivery})
			open = true
		}
		if !open {
			before = append(before, line)
			continue
		}
		a := &attempts[len(attempts)-1]
		a.lines = append(a.lines, line)
		if line.Name == firmware.EventRetry {
			closeAt(line.Time, line.Detail)
		}
	}
	closeAt(end, "")
	return before, attempts
}

// trace makes the spans of an update that has ended.
func (t *Telemetry) trace(ctx context.Context, u *firmware.Update, about image) {
	m := &u.Machine
	requests := t.actions.take(u.ID)
	ctx = context.WithValue(context.WithoutCancel(ctx), wantedKey{}, wanted{TraceID(u.ID), spanID(u.ID, 0)})
	ctx, root := t.tracer.Start(ctx, spanUpdate, trace.WithNewRoot(), trace.WithTimestamp(m.Created), trace.WithAttributes(
		keyUpdate.String(u.ID), keyEndpoint.String(u.Endpoint), keyImageID.String(u.Image), keyImage.String(about.name),
		keyVersion.String(m.Plan.Target), keyBefore.String(m.OldVersion), keyOutcome.String(string(m.Outcome)),
		keyReason.String(string(m.Reason)), keyResult.String(m.Result.String()), keyAttempts.Int(m.Attempt),
	))
	defer root.End(trace.WithTimestamp(m.Ended))
	if !root.IsRecording() {
		return
	}
	ctx = context.WithValue(ctx, wantedKey{}, nil)
	lines := t.journal(ctx, u)
	before, attempts := attemptsOf(lines, m.Ended)
	if len(lines) > 0 && m.Outcome != firmware.OutcomeSucceeded && m.Outcome != firmware.OutcomeCancelled {
		root.SetStatus(codes.Error, string(m.Reason))
	}
	addLines(root, before)
	parents := make([]context.Context, len(attempts))
	for i := range attempts {
		a := &attempts[i]
		parents[i] = t.traceAttempt(ctx, u, a, i == len(attempts)-1)
	}
	for _, r := range requests {
		parent := ctx
		if i := slices.IndexFunc(attempts, func(a attemptSpan) bool { return !r.begin.Before(a.begin) && r.begin.Before(a.end) }); i >= 0 {
			parent = parents[i]
		}
		t.traceRequest(parent, u, &r)
	}
}

// traceAttempt makes the span of an attempt.
func (t *Telemetry) traceAttempt(ctx context.Context, u *firmware.Update, a *attemptSpan, last bool) context.Context {
	m := &u.Machine
	attributes := []attribute.KeyValue{keyUpdate.String(u.ID), keyAttempt.Int(a.n), keyDelivery.String(string(a.delivery))}
	if last {
		if a.delivery == firmware.DeliveryPull {
			attributes = append(attributes, keyProtocol.String(m.Protocol.String()))
		}
		attributes = append(attributes, keyBytes.Int64(m.Bytes))
	}
	ctx = context.WithValue(ctx, wantedKey{}, wanted{trace.SpanContextFromContext(ctx).TraceID(), spanID(u.ID, a.n)})
	ctx, span := t.tracer.Start(ctx, spanAttempt, trace.WithTimestamp(a.begin), trace.WithAttributes(attributes...))
	switch {
	case a.failed != "":
		span.SetStatus(codes.Error, a.failed)
	case last && m.Outcome != firmware.OutcomeSucceeded && m.Outcome != firmware.OutcomeCancelled:
		span.SetStatus(codes.Error, string(m.Reason))
	}
	addLines(span, a.lines)
	span.End(trace.WithTimestamp(a.end))
	return context.WithValue(ctx, wantedKey{}, nil)
}

// addLines adds lines of the journal as events.
func addLines(span trace.Span, lines []firmware.Event) {
	for _, line := range lines {
		span.AddEvent(line.Name, trace.WithTimestamp(line.Time), trace.WithAttributes(
			keyDetail.String(line.Detail), keyPhase.String(string(line.Phase))))
	}
}

// methods are the operations of actions.
var methods = map[firmware.ActionKind]lwm2m.Operation{
	firmware.ActionRead: lwm2m.OpRead, firmware.ActionObserve: lwm2m.OpObserve, firmware.ActionReset: lwm2m.OpWrite,
	firmware.ActionWriteURI: lwm2m.OpWrite, firmware.ActionPush: lwm2m.OpWriteStream, firmware.ActionExecute: lwm2m.OpExecute,
}

// traceRequest makes the span of an action.
func (t *Telemetry) traceRequest(ctx context.Context, u *firmware.Update, r *request) {
	method := methods[r.kind].String()
	attributes := []attribute.KeyValue{
		keyUpdate.String(u.ID), keySystem.String(system), keyMethod.String(method), keyAction.String(string(r.kind)),
	}
	if refused, ok := errors.AsType[*lwm2m.ResponseError](r.err); ok {
		attributes = append(attributes, keyCode.String(refused.Code.String()))
	}
	if kind := requestError(r.err); kind != "" {
		attributes = append(attributes, keyError.String(kind))
	}
	_, span := t.tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(r.begin), trace.WithAttributes(attributes...))
	if r.err != nil {
		span.SetStatus(codes.Error, r.err.Error())
	}
	span.End(trace.WithTimestamp(r.end))
}

// A request is an action with a device.
type request struct {
	kind       firmware.ActionKind
	begin, end time.Time
	err        error
}

const (
	maxActions = 256    // of one update
	allActions = 65_536 // of those that run
)

// actions keeps the actions of updates that run.
type actions struct {
	mu  sync.Mutex
	of  map[string][]request
	all int
}

func (a *actions) add(update string, r request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all >= allActions || len(a.of[update]) >= maxActions {
		return
	}
	if a.of == nil {
		a.of = map[string][]request{}
	}
	a.of[update] = append(a.of[update], r)
	a.all++
}

func (a *actions) take(update string) []request {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.of[update]
	delete(a.of, update)
	a.all -= len(list)
	return list
}

func (a *actions) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.of, a.all = nil, 0
}

type beganKey struct{}

func (t *Telemetry) actionStart(ctx context.Context, _ firmware.Update, _ firmware.ActionKind) context.Context {
	return context.WithValue(ctx, beganKey{}, time.Now())
}

// actionEnd keeps an action. ActionCancel comes after the end of the update.
func (t *Telemetry) actionEnd(ctx context.Context, u firmware.Update, kind firmware.ActionKind, err error) {
	began, ok := ctx.Value(beganKey{}).(time.Time)
	if ok && kind != firmware.ActionCancel && !t.isClosed() {
		t.actions.add(u.ID, request{kind, began, time.Now(), err})
	}
}
