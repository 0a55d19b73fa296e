package telemetry

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// Keys of the sets of attributes.
var (
	callKeys      = [4]attribute.Key{keySystem, keyMethod, keyCode, keyError}
	waitKeys      = [4]attribute.Key{keyMethod}
	phaseKeys     = [4]attribute.Key{keyPhase}
	outcomeKeys   = [4]attribute.Key{keyOutcome}
	deliveryKeys  = [4]attribute.Key{keyDelivery, keyProtocol}
	transportKeys = [4]attribute.Key{keyTransport}
	handshakeKeys = [4]attribute.Key{keyTransport, keyError}
	refusedKeys   = [4]attribute.Key{keyCode, keyTransport}
	eventKeys     = [4]attribute.Key{keyEvent}
	dropKeys      = [4]attribute.Key{keyDrop}
	commitKeys    = [4]attribute.Key{keyError}
)

// Hooks returns the hooks for [firmware.ManagerConfig].
func (t *Telemetry) Hooks() firmware.Hooks {
	i := &t.metrics
	hooks := firmware.Hooks{
		Started: func(ctx context.Context, _ firmware.Update) { i.started.Add(ctx, 1) },
		PhaseEnded: func(ctx context.Context, u firmware.Update, phase firmware.Phase, took time.Duration, bytes int64) {
			i.phase.Record(ctx, took.Seconds(), i.sets.of(&phaseKeys, [4]string{string(phase)}))
			if bytes > 0 {
				m := &u.Machine
				protocol := ""
				if m.Delivery == firmware.DeliveryPull {
					protocol = m.Protocol.String()
				}
				i.bytes.Add(ctx, bytes, i.sets.of(&deliveryKeys, [4]string{string(m.Delivery), protocol}))
			}
		},
		Ended:       t.updateEnded,
		StoreFailed: func(ctx context.Context, _ error) { i.retries.Add(ctx, 1) },
	}
	if t.config.Requests {
		hooks.ActionStart, hooks.ActionEnd = t.actionStart, t.actionEnd
	}
	return hooks
}

// updateEnded counts an update that ended, and makes its trace.
func (t *Telemetry) updateEnded(ctx context.Context, u firmware.Update) {
	if t.isClosed() {
		return
	}
	m := &u.Machine
	about, ok := t.ended.known(u.Image)
	if !ok {
		about = image{t.image(ctx, u.Image), m.Plan.Target}
	}
	t.ended.add(u.Image, ending{about, string(m.Outcome), resultName(m.Result), string(m.Reason)})
	t.metrics.update.Record(ctx, m.Ended.Sub(m.Created).Seconds(), t.metrics.sets.of(&outcomeKeys, [4]string{string(m.Outcome)}))
	t.trace(ctx, &u, about)
}

// resultName is the name of a Result of the registry, or "other": a device can report any number.
func resultName(r firmware.Result) string {
	if r < 0 || r > firmware.ResultDeferred {
		return other
	}
	return r.String()
}

// ServerHooks returns the hooks for [lwm2m.ServerConfig].
func (t *Telemetry) ServerHooks() lwm2m.ServerHooks {
	i, ctx := &t.metrics, context.Background()
	return lwm2m.ServerHooks{
		Handshake: func(transport lwm2m.Transport, _ netip.AddrPort, _ lwm2m.Identity, err error) {
			i.handshakes.Add(ctx, 1, i.sets.of(&handshakeKeys, [4]string{transport.String(), handshakeError(err)}))
		},
		Refused: func(r lwm2m.Registration, err error) {
			i.refused.Add(ctx, 1, i.sets.of(&refusedKeys, [4]string{codeOf(err), r.Transport.String()}))
		},
		Registration: func(e lwm2m.RegistrationEvent) {
			i.registrations.Add(ctx, 1, i.sets.of(&eventKeys, [4]string{e.Kind.String()}))
		},
		Request: func(r lwm2m.RequestEnd) {
			method := r.Operation.String()
			i.wait.Record(ctx, r.Waited.Seconds(), i.sets.of(&waitKeys, [4]string{method}))
			if r.Took == 0 && r.Code == 0 {
				return // no message was sent
			}
			i.call.Record(ctx, r.Took.Seconds(), i.sets.of(&callKeys, [4]string{system, method, codeName(r.Code), requestError(r.Err)}))
		},
		Retransmission: func(_ string, transport lwm2m.Transport, _ netip.AddrPort) {
			i.retransmissions.Add(ctx, 1, i.sets.of(&transportKeys, [4]string{transport.String()}))
		},
		Queue: func(waiting, underWay int) {
			t.queue.waiting.Store(int64(waiting))
			t.queue.underWay.Store(int64(underWay))
		},
		Dropped: func(what string, n int) { i.drops.Add(ctx, int64(n), i.sets.of(&dropKeys, [4]string{what})) },
	}
}

// successes are the codes of answers that are no errors.
var successes = map[lwm2m.ResponseCode]string{
	0x41: "2.01", 0x42: "2.02", 0x43: "2.03", 0x44: "2.04", 0x45: "2.05", 0x5f: "2.31",
}

// refusals are the codes of errors, and their categories.
var refusals = []struct {
	code lwm2m.ResponseCode
	err  error
}{
	{lwm2m.CodeBadRequest, lwm2m.ErrBadRequest},
	{lwm2m.CodeUnauthorized, lwm2m.ErrUnauthorized},
	{lwm2m.CodeForbidden, lwm2m.ErrForbidden},
	{lwm2m.CodeNotFound, lwm2m.ErrNotFound},
	{lwm2m.CodeMethodNotAllowed, lwm2m.ErrMethodNotAllowed},
	{lwm2m.CodeNotAcceptable, lwm2m.ErrNotAcceptable},
	{lwm2m.CodeIncomplete, lwm2m.ErrIncomplete},
	{lwm2m.CodeConflict, lwm2m.ErrConflict},
	{lwm2m.CodePreconditionFailed, lwm2m.ErrPreconditionFailed},
	{lwm2m.CodeTooLarge, lwm2m.ErrTooLarge},
	{lwm2m.CodeUnsupportedFormat, lwm2m.ErrUnsupportedFormat},
	{lwm2m.CodeInternal, lwm2m.ErrInternal},
	{lwm2m.CodeNotImplemented, lwm2m.ErrNotImplemented},
	{lwm2m.CodeUnavailable, lwm2m.ErrUnavailable},
}

// codeName is the text of a code that LwM2M uses, or "other": a device can answer with any.
func codeName(code lwm2m.ResponseCode) string {
	if code == 0 {
		return ""
	}
	if name, ok := successes[code]; ok {
		return name
	}
	for _, r := range refusals {
		if r.code == code {
			return code.String()
		}
	}
	return other
}

// codeOf is the code with which the server refuses a request because of err.
func codeOf(err error) string {
	if refused, ok := errors.AsType[*lwm2m.ResponseError](err); ok {
		return codeName(refused.Code)
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return r.code.String()
		}
	}
	return lwm2m.CodeInternal.String()
}

// requestError is the error.type of a request.
func requestError(err error) string {
	if err == nil {
		return ""
	}
	if refused, ok := errors.AsType[*lwm2m.ResponseError](err); ok {
		return codeName(refused.Code)
	}
	for _, kind := range []struct {
		err  error
		name string
	}{
		{firmware.ErrGivenUp, "given_up"},
		{lwm2m.ErrDeliveryUnknown, "delivery_unknown"},
		{lwm2m.ErrTimeout, "timeout"},
		{lwm2m.ErrNotRegistered, "not_registered"},
		{lwm2m.ErrAsleep, "asleep"},
		{lwm2m.ErrUnreachable, "unreachable"},
		{lwm2m.ErrClosed, "closed"},
		{lwm2m.ErrMalformed, "malformed"},
		{context.Canceled, "canceled"},
		{context.DeadlineExceeded, "deadline_exceeded"},
	} {
		if errors.Is(err, kind.err) {
			return kind.name
		}
	}
	return other
}

// handshakeError is the error.type of a handshake.
func handshakeError(err error) string {
	if err == nil {
		return ""
	}
	if errors.Is(err, lwm2m.ErrUnknownIdentity) {
		return "unknown_identity"
	}
	// The other causes have no errors that can be compared.
	text := err.Error()
	for _, kind := range []struct{ part, name string }{
		{"unknown PSK identity", "unknown_identity"}, {"keys differ", "wrong_key"}, {"peer sent alert", "refused_by_peer"},
		{"x509:", "certificate"}, {"tls: bad certificate", "refused_by_peer"}, {"no answer within", "timeout"},
	} {
		if strings.Contains(text, kind.part) {
			return kind.name
		}
	}
	return other
}

// A measuredStore measures the commits of a store.
type measuredStore struct {
	store.Store
	t *Telemetry
}

// A measuredReporter also says how it is.
type measuredReporter struct {
	measuredStore
	store.Reporter
}

// Store returns a store that measures the commits of db. Everything that writes must use it. It is
// a [store.Reporter] if db is one.
func (t *Telemetry) Store(db store.Store) store.Store {
	measured := measuredStore{db, t}
	if r, ok := db.(store.Reporter); ok {
		return measuredReporter{measured, r}
	}
	return measured
}

// Commit is that of the store.
func (s measuredStore) Commit(ctx context.Context, changes ...store.Change) (uint64, error) {
	if len(changes) == 0 { // it asks for a number
		return s.Store.Commit(ctx)
	}
	began := time.Now()
	last, err := s.Store.Commit(ctx, changes...)
	s.t.committed(ctx, began, err)
	return last, err
}

// A measuredRollouts measures the commits of rollouts.
type measuredRollouts struct {
	store.Rollouts
	t *Telemetry
}

// Rollouts returns a store of rollouts that measures the commits of db.
func (t *Telemetry) Rollouts(db store.Rollouts) store.Rollouts { return measuredRollouts{db, t} }

// CommitRollouts is that of the store.
func (s measuredRollouts) CommitRollouts(ctx context.Context, changes ...store.RolloutChange) error {
	began := time.Now()
	err := s.Rollouts.CommitRollouts(ctx, changes...)
	s.t.committed(ctx, began, err)
	return err
}

// committed measures a commit.
func (t *Telemetry) committed(ctx context.Context, began time.Time, err error) {
	i := &t.metrics
	i.commit.Record(context.WithoutCancel(ctx), time.Since(began).Seconds(), i.sets.of(&commitKeys, [4]string{storeError(err)}))
}

// storeError is the error.type of a commit. A refusal by a rule of the store is one too.
func storeError(err error) string {
	if err == nil {
		return ""
	}
	for _, kind := range []struct {
		err  error
		name string
	}{
		{store.ErrConflict, "conflict"}, {store.ErrActive, "active"}, {store.ErrDuplicate, "duplicate"}, {store.ErrExists, "exists"},
		{store.ErrNotFound, "not_found"}, {store.ErrInUse, "in_use"}, {store.ErrVersionTaken, "version_taken"}, {store.ErrInvalid, "invalid"},
		{store.ErrDamaged, "damaged"}, {store.ErrNoSpace, "no_space"}, {store.ErrClosed, "closed"},
		{context.Canceled, "canceled"}, {context.DeadlineExceeded, "deadline_exceeded"},
	} {
		if errors.Is(err, kind.err) {
			return kind.name
		}
	}
	return other
}
