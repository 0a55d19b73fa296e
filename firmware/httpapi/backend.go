package httpapi

import (
	"context"
	"io"
	"iter"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/store"
)

// manager is the part of [firmware.Manager] that the handler uses.
type manager interface {
	Start(ctx context.Context, request firmware.Request) (firmware.Update, error)
	Cancel(ctx context.Context, id string) (firmware.Update, error)
	Hold(ctx context.Context, id string, h firmware.Hold) (firmware.Update, error)
	Release(ctx context.Context, id, holder string) (firmware.Update, error)
	Served(ctx context.Context, id string) error
	DeleteUpdate(ctx context.Context, id string) error
	RemoveDamaged(ctx context.Context, id string) error
	Get(ctx context.Context, id string) (firmware.Update, error)
	List(ctx context.Context, q store.UpdateQuery) iter.Seq2[firmware.Update, error]
	Journal(ctx context.Context, id string) iter.Seq2[firmware.Event, error]
	Events(ctx context.Context, after uint64) iter.Seq2[firmware.Event, error]
	Devices(ctx context.Context, q store.DeviceQuery) iter.Seq2[firmware.DeviceInfo, error]
	Device(ctx context.Context, endpoint string) (firmware.DeviceInfo, error)
	DeleteDevice(ctx context.Context, endpoint string) error
}

// repository is the part of [firmware.Repository] that the handler uses.
type repository interface {
	Add(ctx context.Context, image firmware.Image, content io.Reader) (firmware.Image, error)
	Get(ctx context.Context, id string) (firmware.Image, error)
	List(ctx context.Context, q store.ImageQuery) iter.Seq2[firmware.Image, error]
	Delete(ctx context.Context, id string) error
}
