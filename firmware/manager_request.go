package firmware

import (
	"cmp"
	"context"
	"encoding"
	"errors"
	"fmt"
	"iter"
	"maps"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/names"
	"github.com/otago-iot/otago/store"
)

// Request asks for one image on one endpoint. Endpoint and Image are needed; the rest has defaults.
type Request struct {
	// Endpoint is the device's endpoint client name. It need not be registered now, nor ever have been: the update waits
	// for it.
	Endpoint string
	// Image is the id of an image of the repository.
	Image string

	// Delivery and Protocol say how the package is to reach the device. Defaults: what suits profile and device. A
	// Protocol means that the device is to pull.
	Delivery fsm.Delivery
	Protocol fsm.Protocol
	// Verify is what proves success. Default fsm.VerifyVersion.
	Verify fsm.Verify
	// Force updates also a device that runs the image's version already.
	Force bool
	// Deadline bounds the whole update, up to a year. Default: that of [ManagerConfig].
	Deadline time.Duration
	// Attempts bounds the transfers, up to 100. Default: that of [ManagerConfig].
	Attempts int
	// Profile names what kind of client the device runs. Default: one that follows the specification.
	Profile string
	// Hold keeps the update from executing until its Holder releases it, or until its Until: see [Manager.Hold]. Default:
	// none.
	Hold fsm.Hold
	// Labels are names and values by which the program finds the update again: see store.UpdateQuery and
	// store.CheckLabels, which says what they may be. At most 16. Default: none.
	Labels map[string]string
	// Key makes the request repeatable: another one with the same key returns the update that the first one made.
	// 1 to 255 characters. Default: none.
	Key string
}

// Bounds of a [Request].
const (
	MaxDeadline = 365 * 24 * time.Hour
	MaxAttempts = 100
)

// A RequestError says what is wrong with a [Request].
type RequestError struct {
	Field   string // in lower case, such as "endpoint"
	Problem string // in words, such as "is empty"
}

func (e *RequestError) Error() string { return "firmware: " + e.Field + " " + e.Problem }

// Start creates an update, durably, and returns it. If Run runs, it begins at once.
//
// The error is a *RequestError; store.ErrNotFound if there is no such image; a *store.UpdateError with store.ErrActive, with the id of the update
// in the way, if the endpoint has an active update; or the store's.
func (m *Manager) Start(ctx context.Context, r Request) (Update, error) {
	profile, err := m.check(r)
	if err != nil {
		return Update{}, err
	}
	img, err := m.db.Image(ctx, r.Image)
	if err != nil {
		return Update{}, fmt.Errorf("firmware: image: %w", err)
	}
	plan := fsm.Plan{
		Target: img.Version, Size: img.Size, Digest: img.SHA256,
		Verify: r.Verify, Delivery: r.Delivery, Protocol: r.Protocol, Force: r.Force, Profile: profile,
		Deadline: r.Deadline, Attempts: r.Attempts, Limits: m.cfg.Limits,
	}
	if plan.Deadline == 0 {
		plan.Deadline = m.cfg.Deadline
	}
	if plan.Attempts == 0 {
		plan.Attempts = m.cfg.Attempts
	}
	if plan.Attempts > MaxAttempts {
		return Update{}, &RequestError{Field: "attempts", Problem: fmt.Sprintf("of the configuration are more than %d", MaxAttempts)}
	}
	if err := plan.Check(); err != nil {
		return Update{}, &RequestError{Field: "image", Problem: "makes no plan for an update: " + err.Error()}
	}
	m.clock.catchUp(ctx, m.db)
	var holds []fsm.Hold
	if r.Hold != (fsm.Hold{}) {
		if err := m.checkHold(r.Hold); err != nil {
			// A request that is repeated gets its update also when its hold has ended.
			for u, e := range m.db.Updates(ctx, store.UpdateQuery{Key: r.Key, Limit: 1}) {
				if e == nil && r.Key != "" {
					return m.repeated(ctx, r, profile, u.ID)
				}
			}
			return Update{}, err
		}
		holds = append(holds, r.Hold)
	}
	now := m.clock.now().Truncate(time.Microsecond)
	machine := fsm.NewUpdate(plan, now, holds...)
	rec := Update{
		ID: newID(now), Endpoint: r.Endpoint, Image: r.Image, Key: r.Key, Labels: maps.Clone(r.Labels),
		Machine: machine, Created: now, Changed: now,
	}
	created := store.AppendEvents{Events: []store.Event{eventOf(rec, EventCreated, describe(img))}}
	if err := ctx.Err(); err != nil {
		return Update{}, fmt.Errorf("firmware: creating update: %w", err)
	}
	// What has begun is ended, so that a caller who goes away leaves no update that nobody knows of.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	m.isStarting(rec.ID, true)
	seq, err := m.db.Commit(ctx, store.CreateUpdate{Update: rec}, created)
	if err != nil {
		m.isStarting(rec.ID, false)
	}
	if again, ok := errors.AsType[*store.UpdateError](err); ok && again.Err == store.ErrDuplicate {
		return m.repeated(ctx, r, profile, again.ID)
	}
	if err != nil {
		if !refused(err) {
			m.adoptIfStored(rec.ID)
		}
		return Update{}, fmt.Errorf("firmware: creating update: %w", err)
	}
	rec.Revision, rec.Since = 1, seq-1
	if stored, err := m.db.Update(ctx, rec.ID); err == nil {
		rec = stored
	}
	m.adoptNew(ctx, rec)
	return rec, nil
}

// adoptNew begins an update that was just created.
func (m *Manager) adoptNew(ctx context.Context, u Update) {
	m.feed.durable()
	m.log.Info("update started", "endpoint", u.Endpoint, "update", u.ID, "image", u.Image, "version", u.Machine.Plan.Target)
	m.hook(ctx, "Started", m.cfg.Hooks.Started, u)
	o := m.resumed(u.Endpoint)
	o.Kind = fsm.ObserveStarted
	m.adopt(u, o, func() {})
}

// isStarting notes that Start stores an update and then adopts it, so that a Run that begins does not.
func (m *Manager) isStarting(id string, is bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if is {
		m.starting[id] = true
	} else {
		delete(m.starting, id)
	}
}

// refused reports whether a failed commit has certainly not taken place.
func refused(err error) bool {
	for _, is := range []error{store.ErrActive, store.ErrNotFound, store.ErrExists, store.ErrInvalid, store.ErrClosed} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// adoptIfStored begins an update of which it is not known whether the store has it, and whose caller was told so, if it turns up.
func (m *Manager) adoptIfStored(id string) {
	m.spawn(func(ctx context.Context) {
		for _, pause := range []time.Duration{time.Second, 5 * time.Second, storeTimeout, 2 * storeTimeout} {
			sleep(ctx, pause)
			var u Update
			err := m.untilStored(ctx, id, func(ctx context.Context) (err error) {
				u, err = m.db.Update(ctx, id)
				return err
			})
			if err == nil {
				m.adoptNew(ctx, u)
				return
			}
		}
	})
}

func describe(img store.Image) string {
	return fmt.Sprintf("%s %s, %d bytes, sha256 %s", img.Name, img.Version, img.Size, img.SHA256)
}

// repeated returns the update that an earlier request with the same key made.
func (m *Manager) repeated(ctx context.Context, r Request, profile fsm.Profile, id string) (Update, error) {
	u, err := m.Get(ctx, id)
	if err != nil {
		return Update{}, err
	}
	plan := u.Machine.Plan
	same := u.Endpoint == r.Endpoint && u.Image == r.Image && plan.Verify == cmp.Or(r.Verify, fsm.VerifyVersion) && plan.Delivery == r.Delivery &&
		plan.Protocol == r.Protocol && plan.Force == r.Force && plan.Profile.Name == profile.Name &&
		maps.Equal(u.Labels, r.Labels) && (r.Deadline == 0 || plan.Deadline == r.Deadline) && (r.Attempts == 0 || plan.Attempts == r.Attempts)
	if !same {
		return Update{}, &RequestError{Field: "key", Problem: "was used for another request"}
	}
	return u, nil
}

// check returns the profile that a request means, or what is wrong with it.
func (m *Manager) check(r Request) (fsm.Profile, error) {
	bad := func(field, problem string) (fsm.Profile, error) {
		return fsm.Profile{}, &RequestError{Field: field, Problem: problem}
	}
	if problem := names.Check(r.Endpoint, 1, store.MaxEndpoint); problem != "" {
		return bad("endpoint", problem)
	}
	if r.Key != "" {
		if problem := names.Check(r.Key, 1, store.MaxName); problem != "" {
			return bad("key", problem)
		}
	}
	if !m.owns(r.Endpoint) {
		return bad("endpoint", "does not belong to this manager")
	}
	profile, ok := m.cfg.Profiles[r.Profile]
	if !ok {
		profile, ok = Profiles()[r.Profile]
	}
	switch {
	case r.Image == "":
		return bad("image", "is empty")
	case len(r.Image) > store.MaxID:
		return bad("image", "is not an image's id")
	case r.Delivery == fsm.DeliveryPush && r.Protocol != fsm.ProtocolAuto:
		return bad("protocol", "is for a device that pulls; this update is to be pushed")
	case r.Deadline < 0 || r.Deadline > MaxDeadline:
		return bad("deadline", "must be positive and at most a year")
	case r.Verify != "" && r.Verify != fsm.VerifyVersion && r.Verify != fsm.VerifyResult:
		return bad("verify", fmt.Sprintf("%.40q is not known", r.Verify))
	case r.Attempts < 0 || r.Attempts > MaxAttempts:
		return bad("attempts", fmt.Sprintf("must be from 1 to %d", MaxAttempts))
	case !ok:
		return bad("profile", fmt.Sprintf("%.40q is not known", r.Profile))
	}
	if r.Hold != (fsm.Hold{}) {
		if err := r.Hold.Check(); err != nil {
			return bad("hold", "is not valid: "+err.Error())
		}
	}
	if err := store.CheckLabels(r.Labels); err != nil {
		return bad("labels", "are not valid: "+strings.TrimPrefix(err.Error(), store.ErrInvalid.Error()+": "))
	}
	// What is not checked here cannot be stored, and what is stored all the same cannot be read back.
	for _, word := range []struct {
		field string
		value encoding.TextMarshaler
	}{{"delivery", r.Delivery}, {"protocol", r.Protocol}} {
		if _, err := word.value.MarshalText(); err != nil {
			return bad(word.field, fmt.Sprintf("%.40q is not known", word.value))
		}
	}
	if err := profile.Check(); err != nil {
		return bad("profile", "is not valid: "+err.Error())
	}
	return profile, nil
}

// Get returns an update, with the progress of the moment if it is active here. The error is store.ErrNotFound or the store's.
func (m *Manager) Get(ctx context.Context, id string) (Update, error) {
	d := m.runOf(id)
	u, err := m.db.Update(ctx, id)
	switch {
	case d == nil || errors.Is(err, store.ErrNotFound):
		return u, err
	case err != nil:
		return d.current(), nil
	default:
		return d.newer(u), nil
	}
}

// List yields the updates that q selects, with the progress of the moment.
func (m *Manager) List(ctx context.Context, q store.UpdateQuery) iter.Seq2[Update, error] {
	return func(yield func(Update, error) bool) {
		for u, err := range m.db.Updates(ctx, q) {
			if err == nil && u.Active() {
				if d := m.runOf(u.ID); d != nil {
					u = d.newer(u)
				}
			}
			if !yield(u, err) {
				return
			}
		}
	}
}
