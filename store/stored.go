package store

import (
	"fmt"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/record"
)

var (
	updateCodec  = record.Of[Update]()
	machineCodec = record.Of[fsm.Update]()
	eventCodec   = record.Of[Event]()
	imageCodec   = record.Of[Image]()
	deviceCodec  = record.Of[Device]()
)

// The fields of an event whose values have names.
const firstWord, lastWord = 7, 10

// AppendBinary appends the update in the form for back ends that keep bytes: short, and readable by
// later versions of this module. It implements encoding.BinaryAppender, and fails for an update
// that [Normalize] refuses. The same holds for the other records.
func (u *Update) AppendBinary(b []byte) ([]byte, error) { return appendRecord(updateCodec, b, u) }

// UnmarshalBinary sets the update to what AppendBinary appended. Any other data is an error; data
// is not kept. The same holds for the other records.
func (u *Update) UnmarshalBinary(data []byte) error { return parseRecord(updateCodec, data, u) }

// AppendBinary implements encoding.BinaryAppender; see [Update.AppendBinary].
func (e *Event) AppendBinary(b []byte) ([]byte, error) { return appendRecord(eventCodec, b, e) }

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (e *Event) UnmarshalBinary(data []byte) error { return parseRecord(eventCodec, data, e) }

// AppendBinary implements encoding.BinaryAppender; see [Update.AppendBinary].
func (i *Image) AppendBinary(b []byte) ([]byte, error) { return appendRecord(imageCodec, b, i) }

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (i *Image) UnmarshalBinary(data []byte) error { return parseRecord(imageCodec, data, i) }

// AppendBinary implements encoding.BinaryAppender; see [Update.AppendBinary].
func (d *Device) AppendBinary(b []byte) ([]byte, error) { return appendRecord(deviceCodec, b, d) }

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (d *Device) UnmarshalBinary(data []byte) error { return parseRecord(deviceCodec, data, d) }

func appendRecord[T any](codec *record.Codec[T], b []byte, v *T) ([]byte, error) {
	b, err := codec.Append(b, v)
	if err != nil {
		return b, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return b, nil
}

func parseRecord[T any](codec *record.Codec[T], data []byte, v *T) error {
	if err := codec.Decode(data, v); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}
