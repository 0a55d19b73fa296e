package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// device returns what is known of an endpoint, which may be nothing.
func (m *Manager) device(ctx context.Context, endpoint string) (store.Device, error) {
	d, err := m.updates.Device(ctx, endpoint)
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrDamaged) {
		return store.Device{}, err
	}
	d.Endpoint = endpoint
	return d.Device, nil
}

// judge returns why a device is not updated, as far as its facts are known.
func (m *Manager) judge(asked *stored, image *store.Image, d *store.Device) fsm.SkipReason {
	if why, known := firmware.Incompatible(*image, d); known && why != "" && !asked.Update.Force {
		return fsm.SkipIncompatible
	}
	version := d.Firmware.Version
	switch {
	case version == "":
		return ""
	case version == image.Version && !asked.Update.Force:
		return fsm.SkipCurrent
	}
	return lower(asked, image, version)
}

// lower returns SkipNotComparable if the image is no higher version than a device runs.
func lower(asked *stored, image *store.Image, version string) fsm.SkipReason {
	if asked.Downgrade || version == image.Version {
		return ""
	}
	if n, ok := firmware.CompareVersions(image.Version, version); !ok || n < 0 {
		return fsm.SkipNotComparable
	}
	return ""
}

// begun reports whether the member's update exists: it was made before a crash.
func (r *runner) begun(ctx context.Context, m *Member) bool {
	for _, err := range r.m.updates.List(ctx, store.UpdateQuery{Key: key(m), Limit: 1}) {
		return err == nil
	}
	return false
}

// unfit returns why a member's device is not updated. A device that has to answer first, or of
// which no version is known, is read; the error says that it does not answer.
func (r *runner) unfit(ctx context.Context, m *Member, asked *stored, image *store.Image, asks bool) (fsm.SkipReason, error) {
	if asked.Downgrade && image.Compatible == (store.Compatible{}) && !asks {
		return "", nil
	}
	d, err := r.m.device(ctx, m.Endpoint)
	if err != nil {
		return "", err
	}
	if why, known := firmware.Incompatible(*image, &d); known && why != "" && !asked.Update.Force {
		return fsm.SkipIncompatible, nil
	}
	version := d.Firmware.Version
	if asks || version == "" && !asked.Downgrade {
		shown, err := r.version(ctx, m.Endpoint)
		// A device is not silent if nothing could be sent, as when the server begins to listen.
		known := version != "" || asked.Downgrade
		if err != nil && !(known && errors.Is(err, lwm2m.ErrUnreachable)) {
			return "", fmt.Errorf("the version of the device could not be read: %w", err)
		}
		version = cmp.Or(shown, version)
	}
	return lower(asked, image, version), nil
}

// version reads the version of a device. It is "" if the device shows none.
func (r *runner) version(ctx context.Context, endpoint string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	v, err := r.m.srv.ReadValue(ctx, endpoint, lwm2m.NewPath(3, 0, 3))
	if errors.As(err, new(*lwm2m.ResponseError)) {
		return "", nil
	}
	version, _ := v.Text()
	return clip(strings.Trim(version, " \t\r\n\x00"), store.MaxName), err
}
