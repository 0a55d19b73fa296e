package rollout

import (
	"context"

	"github.com/otago-iot/otago/store"
)

// Keep says that an image, a device or an update is needed by a rollout that has not ended: it is
// for firmware.ManagerConfig.Keep.
func (m *Manager) Keep(ctx context.Context, kind store.Kind, id string) (reason string, err error) {
	endpoint := id
	switch kind {
	case store.KindImage:
		for r, err := range m.db.RolloutList(ctx, store.RolloutQuery{Active: true}) {
			if err != nil {
				return "", err
			}
			if r.Image == id {
				return "rollout " + r.ID + " needs it", nil
			}
		}
		return "", nil
	case store.KindUpdate:
		u, err := m.updates.Get(ctx, id)
		if err != nil {
			return "", err
		}
		endpoint = u.Endpoint
	case store.KindDevice:
	default:
		return "", nil
	}
	for member, err := range m.db.MembersOf(ctx, []string{endpoint}) {
		switch {
		case err != nil:
			return "", err
		case kind == store.KindDevice || member.Machine.Update == id:
			return "rollout " + member.Rollout + " needs it", nil
		}
	}
	return "", nil
}
