package firmware

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/firmware/internal/ulid"
	"github.com/otago-iot/otago/store"
)

// Request asks for one image on one endpoint. Endpoint and Image are required; the other fields
// have defaults.
type Request struct {
	// Endpoint is the endpoint client name of the device. The device need not be registered, now or
	// earlier; the update waits for it.
	Endpoint string
	// Image is the id of an image of the repository.
	Image string

	// Delivery and Protocol say how the package reaches the device. A Protocol makes the device
	// pull. Defaults: what suits the profile and the device; a device that takes both is pushed to,
	// or pulls if there is a ManagerConfig.PackageURI.
	Delivery DeliveryMode
	Protocol Protocol
	// Verify is what proves success. Default: VerifyVersion.
	Verify Verify
	// Force updates a device even if it already runs the version of the image, or the image is not
	// made for it (Image.Compatible).
	Force bool
	// Deadline limits the whole update, up to [MaxDeadline]. Default: that of [ManagerConfig].
	Deadline time.Duration
	// Attempts limits the transfers, from 1 to [MaxAttempts]. Default: that of [ManagerConfig].
	Attempts int
	// Profile names the kind of client that the device runs; see [Profiles]. Default: one that
	// follows the specification.
	Profile string
	// Hold keeps the update from executing until its Holder releases it or its Until has passed;
	// see [Manager.Hold]. Default: none.
	Hold Hold
	// Labels are names and values by which the program finds the update again (store.UpdateQuery).
	// They do not change. store.CheckLabels says what they may be; at most 16. Default: none.
	Labels map[string]string
	// Key makes the request repeatable: a second request with the same key returns the update of
	// the first. A store keeps one update for each key; a key with another endpoint, or with a
	// request that differs, is a *RequestError of the field "key". 1 to 255 bytes of UTF-8 without
	// control characters. Default: none.
	Key string
}

// Bounds of a [Request].
const (
	MaxDeadline = 365 * 24 * time.Hour
	MaxAttempts = 100
)

// A RequestError says which field of a [Request] is wrong, and why.
type RequestError struct {
	Field   string // in lower case, such as "endpoint"
	Problem string // in words, such as "is empty"
}

func (e *RequestError) Error() string { return "firmware: " + e.Field + " " + e.Problem }

// Check returns the *RequestError that [Manager.Start] would return for what the request itself
// says, or nil: it looks at no image, device or update.
func (m *Manager) Check(r Request) error {
	_, err := m.check(r)
	return err
}

// Start creates an update, durably, and returns it. If Run runs, the update begins at once.
//
// The error is a *RequestError, also if the image is not made for the device ([Incompatible]);
// store.ErrNotFound if the image does not exist; a *store.UpdateError
// that matches store.ErrActive, with the id of the active update, if the endpoint has one; or that
// of the store. After an error of the store other than these, the update may exist: a request with
// a Key can be repeated.
func (m *Manager) Start(ctx context.Context, r Request) (Update, error) {
	profile, err := m.check(r)
	if err != nil {
		return Update{}, err
	}
	img, err := m.images.known(ctx, r.Image)
	if err != nil {
		return Update{}, fmt.Errorf("firmware: image: %w", err)
	}
	plan := fsm.Plan{
		Target: img.Version, Size: img.Size, Digest: img.SHA256,
		Verify: r.Verify, Delivery: r.Delivery, Protocol: r.Protocol, Force: r.Force, Profile: profile,
		Deadline: r.Deadline, Attempts: r.Attempts, Limits: m.config.Limits, Compatible: img.Compatible,
	}
	if m.config.PackageURI != nil && plan.Profile.Delivery == fsm.DeliveryAuto {
		plan.Profile.Delivery = fsm.DeliveryPull // the program wants the other server to be used
	}
	if plan.Deadline == 0 {
		plan.Deadline = m.config.Deadline
	}
	if plan.Attempts == 0 {
		plan.Attempts = m.config.Attempts
	}
	if plan.Attempts > MaxAttempts {
		return Update{}, &RequestError{Field: "attempts", Problem: fmt.Sprintf("of the configuration are more than %d", MaxAttempts)}
	}
	if err := plan.Check(); err != nil {
		return Update{}, &RequestError{Field: "image", Problem: "makes no plan for an update: " + err.Error()}
	}
	m.clock.catchUp(ctx, m.db)
	var holds []fsm.Hold
	wrong := m.checkCompatible(ctx, r, img)
	if r.Hold != (fsm.Hold{}) {
		wrong = cmp.Or(wrong, m.checkHold(r.Hold))
		holds = append(holds, r.Hold)
	}
	if wrong != nil {
		// A repeated request gets its update even if its hold has expired, or the device has
		// changed.
		if id := m.withKey(ctx, r.Key); id != "" {
			return m.repeated(ctx, r, profile, id)
		}
		return Update{}, wrong
	}
	now := m.clock.now().Truncate(time.Microsecond)
	rec := Update{
		ID: ulid.New(now), Endpoint: r.Endpoint, Image: r.Image, Key: r.Key, Labels: maps.Clone(r.Labels),
		Machine: fsm.NewUpdate(plan, now, holds...), Created: now, Changed: now,
	}
	lines := []store.Event{eventOf(&rec, EventCreated, describe(img))}
	// The first step is stored with the update. Without a Run it is left to the next one.
	first := m.firstStep(&rec)
	if first != nil {
		lines = appendJournal(lines, &rec, first.actions.Journal)
	}
	if err := ctx.Err(); err != nil {
		return Update{}, fmt.Errorf("firmware: creating update: %w", err)
	}
	// A caller that goes away must not leave an update that no program knows of, so the commit
	// completes.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	m.isStarting(rec.ID, true)
	seq, err := m.commit(ctx, store.CreateUpdate{Update: rec}, store.AppendEvents{Events: lines})
	if again, ok := errors.AsType[*store.UpdateError](err); ok && again.Err == store.ErrDuplicate {
		m.isStarting(rec.ID, false)
		return m.repeated(ctx, r, profile, again.ID)
	}
	if err != nil {
		if refused(err) {
			m.isStarting(rec.ID, false)
		} else {
			m.adoptIfStored(rec.ID, first)
		}
		return Update{}, fmt.Errorf("firmware: creating update: %w", err)
	}
	rec.Revision, rec.Since = 1, seq-uint64(len(lines))
	m.adoptNew(ctx, &rec, first)
	return clone(&rec), nil
}

// checkCompatible returns a *RequestError if the image is known not to be made for the device. The
// update itself reads the facts of a device that are not known, or may have changed.
func (m *Manager) checkCompatible(ctx context.Context, r Request, img store.Image) error {
	if r.Force || img.Compatible == (store.Compatible{}) {
		return nil
	}
	d, err := m.db.Device(ctx, r.Endpoint)
	if err != nil {
		return nil
	}
	reg, ok := m.srv.Registration(r.Endpoint)
	f := factsOf(&d, reg, ok)
	if why, _ := f.incompatible(img); why != "" {
		return &RequestError{Field: "image", Problem: "is not made for the device: " + why}
	}
	return nil
}

func describe(img store.Image) string {
	return fmt.Sprintf("%s %s, %d bytes, sha256 %s", img.Name, img.Version, img.Size, img.SHA256)
}

// withKey returns the id of the update with a key, or "".
func (m *Manager) withKey(ctx context.Context, key string) string {
	if key == "" {
		return ""
	}
	for u, err := range m.db.Updates(ctx, store.UpdateQuery{Key: key, Limit: 1}) {
		if err == nil {
			return u.ID
		}
	}
	return ""
}

// repeated returns the update of an earlier request with the same key.
func (m *Manager) repeated(ctx context.Context, r Request, profile fsm.Profile, id string) (Update, error) {
	u, err := m.Get(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return Update{}, &RequestError{Field: "key", Problem: "was used for update " + id + ", which was deleted"}
	case err != nil:
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

// Get returns an update as it is now, if it runs here; if not, as it is stored. Outcome, holds,
// attempts, and an Execute that may have been sent, are always stored before Get returns them. What
// else it returns, such as phase, State, wait and progress, may be up to 30 s newer than the store,
// and up to a second from the first call of Get on. After a crash Get returns the older stored
// state until the manager has read the device again.
//
// The error is store.ErrNotFound, a *store.DamagedError, or that of the store.
func (m *Manager) Get(ctx context.Context, id string) (Update, error) {
	if d := m.runOf(id); d != nil {
		m.saver.reads(d)
	}
	return m.get(ctx, id)
}

// get is Get for a caller who does not follow the update.
func (m *Manager) get(ctx context.Context, id string) (Update, error) {
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
