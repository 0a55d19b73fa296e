package rollout

import (
	"context"
	"errors"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

// Keep says that an image, a device or an update is needed by a rollout that has not ended. It is
// for firmware.ManagerConfig.Keep; see the example of Manager.
func (m *Manager) Keep(ctx context.Context, kind store.Kind, id string) (reason string, err error) {
	endpoint := id
	switch kind {
	case store.KindImage:
		return m.keepImage(ctx, id)
	case store.KindUpdate:
		u, err := m.updates.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged) {
			return "", nil // a rollout can do nothing with it
		}
		if err != nil {
			return "", err
		}
		endpoint = u.Endpoint
	case store.KindDevice:
	default:
		return "", nil
	}
	for member, err := range m.db.MembersOf(ctx, []string{endpoint}) {
		machine := &member.Machine
		switch {
		case errors.Is(err, store.ErrDamaged):
			return "may be needed by rollout " + member.Rollout + ", whose record of its device is damaged", nil
		case err != nil:
			return "", err
		case kind == store.KindDevice && machine.Skip != fsm.SkipRemoved || kind == store.KindUpdate && machine.Update == id:
			return "is needed by rollout " + member.Rollout, nil
		}
	}
	return "", nil
}

func (m *Manager) keepImage(ctx context.Context, id string) (reason string, err error) {
	for r, err := range m.db.RolloutList(ctx, store.RolloutQuery{Active: true}) {
		switch {
		case errors.Is(err, store.ErrDamaged):
			reason = "may be needed by rollout " + r.ID + ", which is damaged"
		case err != nil:
			return "", err
		case r.Image == id:
			return "is needed by rollout " + r.ID, nil
		}
	}
	return reason, nil
}
