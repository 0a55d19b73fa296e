package rollout

import (
	"context"
	"iter"
	"strconv"
	"strings"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/store"
)

// A Selector selects devices.
type Selector struct {
	Labels       map[string]string `json:"labels,omitempty"`
	Manufacturer string            `json:"manufacturer,omitempty"`
	Model        string            `json:"model,omitempty"`
	Hardware     string            `json:"hardware,omitempty"`
	Version      string            `json:"version,omitempty"`
	VersionBelow string            `json:"version_below,omitempty"`
	Registered   bool              `json:"registered,omitempty"`
}

// Check returns what is wrong with the selector.
func (s *Selector) Check() error { return nil }

// Match reports whether the selector selects a device.
func (s *Selector) Match(d store.Device) bool {
	for k, v := range s.Labels {
		if d.Labels[k] != v {
			return false
		}
	}
	is := func(want, have string) bool { return want == "" || want == have }
	if s.VersionBelow != "" {
		if n, ok := compareVersions(d.Firmware.Version, s.VersionBelow); !ok || n >= 0 {
			return false
		}
	}
	return is(s.Model, d.Facts.Model) && is(s.Manufacturer, d.Facts.Manufacturer) && is(s.Hardware, d.Facts.Hardware) &&
		is(s.Version, d.Firmware.Version)
}

func (m *Manager) selectPage(ctx context.Context, s Selector, after string, limit int) iter.Seq2[firmware.DeviceInfo, error] {
	return m.updates.Devices(ctx, store.DeviceQuery{
		After: after, Limit: limit, Filter: func(d store.Device) bool { return s.Match(d) && (!s.Registered || m.srv.Registered(d.Endpoint)) },
	})
}

func (m *Manager) compatible(image store.Image, d store.Device) (ok, known bool) { return true, false }

func compareVersions(a, b string) (int, bool) {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	if len(x) != len(y) {
		return 0, false
	}
	for i := range x {
		n, err := strconv.Atoi(x[i])
		k, err2 := strconv.Atoi(y[i])
		if err != nil || err2 != nil {
			return 0, false
		}
		if n != k {
			return n - k, true
		}
	}
	return 0, true
}
