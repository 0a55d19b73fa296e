package firmware

import (
	"context"
	"iter"
	"maps"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/otago-iot/otago/internal/names"
	"github.com/otago-iot/otago/store"
)

// A Selector selects devices by what is known of them. A device must fit every field that is set;
// the zero value selects all devices. What a device says of itself, such as its version, is known
// once it has been read: see ManagerConfig.Inventory.
type Selector struct {
	// Labels are labels that the device has, with these values; see [Manager.SetLabels].
	Labels map[string]string `json:"labels,omitempty"`
	// Manufacturer, Model and Hardware are what its resources 3/0/0, 3/0/1 and 3/0/18 say.
	Manufacturer string `json:"manufacturer,omitempty"`
	Model        string `json:"model,omitempty"`
	Hardware     string `json:"hardware,omitempty"`
	// Version is what its resource 3/0/3 says. A device whose version is lower than VersionBelow
	// runs a semantic version that is; see [CompareVersions].
	Version      string `json:"version,omitempty"`
	VersionBelow string `json:"version_below,omitempty"`
	// Registered selects devices whose registration has not ended.
	Registered bool `json:"registered,omitempty"`
	// Contains is a part of the endpoint, in upper or lower case.
	Contains string `json:"contains,omitempty"`
}

// Check returns a *RequestError if no device could fit the selector: its text is no value of a
// label or of a resource, or VersionBelow is no semantic version. The field is that of its JSON.
func (s Selector) Check() error {
	if err := store.CheckDeviceLabels(s.Labels); err != nil {
		return &RequestError{Field: "labels", Problem: "are not valid: " + strings.TrimPrefix(err.Error(), store.ErrInvalid.Error()+": ")}
	}
	for _, text := range []struct {
		field, value string
		most         int
	}{
		{"manufacturer", s.Manufacturer, store.MaxFact}, {"model", s.Model, store.MaxFact}, {"hardware", s.Hardware, store.MaxFact},
		{"version", s.Version, store.MaxText}, {"version_below", s.VersionBelow, store.MaxText}, {"contains", s.Contains, store.MaxEndpoint},
	} {
		if problem := names.Check(text.value, 0, text.most); problem != "" {
			return &RequestError{Field: text.field, Problem: problem}
		}
	}
	if _, ok := CompareVersions(s.VersionBelow, s.VersionBelow); !ok && s.VersionBelow != "" {
		return &RequestError{Field: "version_below", Problem: "is no semantic version, such as 2.0.1"}
	}
	return nil
}

// Match reports whether a device fits the selector.
func (s Selector) Match(d *store.Device) bool {
	q := s.query()
	return q.Selects(d) && (q.Filter == nil || q.Filter(*d)) && (s.VersionBelow == "" || lower(d.Firmware.Version, s.VersionBelow))
}

// query returns a query for all fields except VersionBelow.
func (s Selector) query() store.DeviceQuery {
	q := store.DeviceQuery{
		Labels: maps.Clone(s.Labels), Manufacturer: s.Manufacturer, Model: s.Model, Hardware: s.Hardware, Registered: s.Registered,
	}
	if s.Version != "" {
		q.Versions = []string{s.Version}
	}
	if part := strings.ToLower(s.Contains); part != "" {
		q.Filter = func(d store.Device) bool { return strings.Contains(strings.ToLower(d.Endpoint), part) }
	}
	return q
}

// CompareVersions compares two versions as semantic versions (semver.org): n is negative if a is
// lower than b, positive if it is higher, and 0 if neither is. A leading v, and missing minor and
// patch numbers, make no difference; the rest of 1.0.0-rc.1+build.7 from the + on does not count.
// It reports false if one of them is no semantic version, such as 1.0.0.4 or "", so that the two
// cannot be compared.
func CompareVersions(a, b string) (n int, ok bool) {
	if a, ok = semantic(a); !ok {
		return 0, false
	}
	if b, ok = semantic(b); !ok {
		return 0, false
	}
	return semver.Compare(a, b), true
}

func semantic(v string) (string, bool) {
	if !strings.HasPrefix(v, "v") {
		v = "v" + v
	}
	return v, semver.IsValid(v)
}

func lower(version, than string) bool {
	n, ok := CompareVersions(version, than)
	return ok && n < 0
}

// Select yields the devices that the selector selects, by rising endpoint, each as [Manager.Device]
// returns it: those after the endpoint after, which may be "", and at most limit of them. With a
// limit it reads a page, which may end early with store.ErrShort, as [Manager.Devices] does;
// without one (0) it yields all.
//
// The error of a selector that is not valid is a *RequestError; the others are those of the store.
func (m *Manager) Select(ctx context.Context, s Selector, after string, limit int) iter.Seq2[DeviceInfo, error] {
	return func(yield func(DeviceInfo, error) bool) {
		q, some, err := m.selection(ctx, s)
		if err != nil {
			yield(DeviceInfo{}, err)
			return
		}
		if !some {
			return
		}
		q.After, q.Limit = after, limit
		m.Devices(ctx, q)(yield)
	}
}

// selection returns the query of a selector, and whether it can select any device. A store knows
// nothing of semantic versions, so it is asked for the versions that devices have, and then for
// devices by those that are lower.
func (m *Manager) selection(ctx context.Context, s Selector) (q store.DeviceQuery, some bool, err error) {
	if err := s.Check(); err != nil {
		return q, false, err
	}
	q = s.query()
	switch {
	case s.VersionBelow == "":
		return q, true, nil
	case s.Version != "":
		return q, lower(s.Version, s.VersionBelow), nil
	}
	counts, err := m.db.DeviceCounts(ctx)
	if err != nil {
		return q, false, err
	}
	if len(counts.Versions) == store.MaxDeviceCounts { // there may be more
		named := q.Filter
		q.Filter = func(d store.Device) bool {
			return lower(d.Firmware.Version, s.VersionBelow) && (named == nil || named(d))
		}
		return q, true, nil
	}
	for _, c := range counts.Versions {
		if lower(c.Value, s.VersionBelow) {
			q.Versions = append(q.Versions, c.Value)
		}
	}
	return q, len(q.Versions) > 0, nil
}

// SetLabels replaces the labels of a device, durably, and returns the device. Labels are names and
// values by which operators and programs find devices ([Manager.Select]); store.CheckDeviceLabels
// says what they may be. Nothing but SetLabels changes them, and only [Manager.DeleteDevice]
// removes them: neither a registration, nor its end, nor a restart. The device need not have
// registered. No label starts an update.
//
// The error is a *RequestError if the endpoint or the labels are not valid; store.ErrNotFound if
// there are no labels and nothing is known of the endpoint, or if another manager owns it; or that
// of the store.
func (m *Manager) SetLabels(ctx context.Context, endpoint string, labels map[string]string) (DeviceInfo, error) {
	if problem := names.Check(endpoint, 1, store.MaxEndpoint); problem != "" {
		return DeviceInfo{}, &RequestError{Field: "endpoint", Problem: problem}
	}
	if !m.owns(endpoint) {
		return DeviceInfo{}, store.ErrNotFound
	}
	if err := (Selector{Labels: labels}).Check(); err != nil {
		return DeviceInfo{}, err
	}
	if _, err := m.db.Commit(ctx, store.PutLabels{Endpoint: endpoint, Labels: labels}); err != nil {
		return DeviceInfo{}, err
	}
	d, err := m.Device(ctx, endpoint)
	if err == nil {
		m.log.Info("labels set", "endpoint", endpoint, "labels", len(labels))
	}
	return d, err
}
