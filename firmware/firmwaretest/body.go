package firmwaretest

import (
	"context"
	"time"

	"github.com/otago-iot/otago/lwm2m"
)

// body is Object 3 of a Device in one life, and what ends that life.
type body struct {
	*lwm2m.ValueObject
	device *Device
	end    func()        // ends the life
	down   time.Duration // how long the device stays down afterwards
}

var _ lwm2m.Runner = (*body)(nil)

// Run ends the life when the device restarts.
func (b *body) Run(ctx context.Context, _ *lwm2m.Client) error {
	defer b.end()
	select {
	case <-ctx.Done():
		return nil
	case b.down = <-b.device.reboot:
		return errReboot
	}
}

func (b *body) Read(ctx context.Context, path lwm2m.Path) ([]lwm2m.Entry, error) {
	entries, err := b.ValueObject.Read(ctx, path)
	return b.device.script.Habits.Nonsense.instead(path, entries, err)
}
