package firmware

import (
	"context"
	"errors"
	"fmt"

	"github.com/otago-iot/otago/store"
)

// SetLater notes that the device of an update that succeeded showed another version after that, and
// when: Update.Later. Its outcome stays. A second version replaces the first one.
//
// The error is a *RequestError if the update has not succeeded, or if the version is not another
// one; store.ErrNotFound; or that of the store.
func (m *Manager) SetLater(ctx context.Context, id, version string) (Update, error) {
	for {
		u, err := m.db.Update(ctx, id)
		switch {
		case err != nil:
			return u, err
		case u.Outcome() != OutcomeSucceeded:
			return u, &RequestError{Field: "update", Problem: "has not succeeded"}
		case version == "" || version == u.Target():
			return u, &RequestError{Field: "version", Problem: fmt.Sprintf("is not another one: %q", version)}
		case version == u.Later.Version:
			return u, nil
		}
		m.clock.catchUp(ctx, m.db)
		u.Changed = m.clock.now()
		u.Later = store.Later{Version: version, Time: u.Changed}
		lines := []store.Event{eventOf(&u, EventLater, fmt.Sprintf("the device shows version %s, not %s", version, u.Target()))}
		_, err = m.commit(ctx, store.ReplaceUpdate{Update: u}, store.AppendEvents{Events: lines})
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err != nil {
			return u, err
		}
		u.Revision++
		m.log.Warn("a device shows another version after its update", "update", id, "endpoint", u.Endpoint, "version", version)
		return u, nil
	}
}
