package lwm2m

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
)

// DeviceObjectConfig is the configuration of object 3, Device. An empty text means that the device
// does not have the resource.
type DeviceObjectConfig struct {
	Manufacturer, Model, Serial string
	// FirmwareVersion is resource 3, by which servers judge whether an update succeeded.
	FirmwareVersion string
	HardwareVersion string
	SoftwareVersion string
	DeviceType      string
	// Bindings are the transports and modes that the device supports (resource 16), such as "U" or
	// "T". Default: "U", UDP.
	Bindings string

	// Reboot is called after the answer to a server's order to reboot was sent: see [Client.Stop].
	// Default: the order is refused with 5.01.
	Reboot func()
	// FactoryReset is the same for a factory reset. Default: the resource is absent.
	FactoryReset func()

	// UTCOffset (resource 14, ISO 8601, such as "+02:00" or "Z") and Timezone (15, a name of the
	// IANA database, such as "Europe/Berlin") are the values that a server wrote earlier. Servers
	// may write both; the object refuses other texts with 4.00. Default: absent until a server
	// writes them.
	UTCOffset, Timezone string
	// SaveTimezone is called with both before a server's write of one or both takes effect, "" for
	// one that is absent, so that the program can store and apply them. It may block. Its error is
	// the answer, and then nothing changes; a program that does not know the zone wraps
	// [ErrBadRequest]. Default: they last as long as the object.
	SaveTimezone func(ctx context.Context, utcOffset, timezone string) error
}

// Resources of object 3.
const (
	deviceManufacturer    = 0
	deviceModel           = 1
	deviceSerial          = 2
	deviceFirmwareVersion = 3
	deviceReboot          = 4
	deviceFactoryReset    = 5
	deviceErrorCode       = 11
	deviceUTCOffset       = 14
	deviceTimezone        = 15
	deviceBindings        = 16
	deviceType            = 17
	deviceHardwareVersion = 18
	deviceSoftwareVersion = 19
)

// NewDeviceObject returns object 3, Device. The program sets further resources, and their
// instances, with [ValueObject.Set]: the level of a battery at /3/0/9, the voltages of two power
// sources at /3/0/7/0 and /3/0/7/1, an error code at /3/0/11/0, which is 0, no error, in the
// beginning.
func NewDeviceObject(config DeviceObjectConfig) *ValueObject {
	var o *ValueObject
	v := ValueObjectConfig{
		ID:       3,
		Values:   []Entry{{Path: NewPath(3, 0, deviceErrorCode, 0), Value: Integer(0)}},
		Writable: map[uint16]func(Value) error{deviceUTCOffset: checkUTCOffset, deviceTimezone: checkTimezone},
		OnWrite: func(ctx context.Context, values []Entry) error {
			if config.SaveTimezone == nil {
				return nil
			}
			offset, _ := o.Value(NewPath(3, 0, deviceUTCOffset)).Text()
			zone, _ := o.Value(NewPath(3, 0, deviceTimezone)).Text()
			for _, e := range values {
				text, _ := e.Value.Text()
				if e.Path.Resource() == deviceUTCOffset {
					offset = text
				} else {
					zone = text
				}
			}
			return config.SaveTimezone(ctx, offset, zone)
		},
		OnExecute: map[uint16]func(context.Context, uint16, string) error{
			deviceReboot: func(ctx context.Context, _ uint16, _ string) error {
				if config.Reboot == nil {
					return fmt.Errorf("%w: this device does not reboot", ErrNotImplemented)
				}
				AfterResponse(ctx, config.Reboot)
				return nil
			},
		},
	}
	if config.FactoryReset != nil {
		v.OnExecute[deviceFactoryReset] = func(ctx context.Context, _ uint16, _ string) error {
			AfterResponse(ctx, config.FactoryReset)
			return nil
		}
	}
	for id, text := range map[uint16]string{
		deviceManufacturer: config.Manufacturer, deviceModel: config.Model, deviceSerial: config.Serial,
		deviceFirmwareVersion: config.FirmwareVersion, deviceUTCOffset: config.UTCOffset, deviceTimezone: config.Timezone,
		deviceBindings: cmp.Or(config.Bindings, "U"), deviceType: config.DeviceType, deviceHardwareVersion: config.HardwareVersion,
		deviceSoftwareVersion: config.SoftwareVersion,
	} {
		if text != "" {
			v.Values = append(v.Values, Entry{Path: NewPath(3, 0, id), Value: String(text)})
		}
	}
	o = NewValueObject(v)
	return o
}

// checkUTCOffset accepts an offset of ISO 8601: Z, or a sign, hours and perhaps minutes, from
// -12:00 to +14:00, the range in use.
func checkUTCOffset(v Value) error {
	text, _ := v.Text()
	if text == "Z" {
		return nil
	}
	bad := errors.New("not a UTC offset such as +02:00")
	hours, minutes, colon := strings.Cut(text, ":")
	if !colon && len(text) == len("+0200") {
		hours, minutes = text[:3], text[3:]
	}
	if len(hours) != len("+02") || (colon || minutes != "") && len(minutes) != 2 {
		return bad
	}
	minus := hours[0] == '-'
	if !minus && hours[0] != '+' {
		return bad
	}
	total := 0
	for i, unit := range []int{600, 60, 10, 1} {
		digits := hours[1:] + minutes + "00"
		if digits[i] < '0' || digits[i] > '9' {
			return bad
		}
		total += int(digits[i]-'0') * unit
	}
	switch {
	case minutes > "59", minus && (total > 12*60 || total == 0), total > 14*60:
		return bad
	}
	return nil
}

// checkTimezone accepts text in the form of a name in the IANA database: parts of letters, digits,
// "+", "-" and "_", between slashes. Devices may have no copy of the database.
func checkTimezone(v Value) error {
	text, _ := v.Text()
	bad := errors.New("not the name of a time zone such as Europe/Berlin")
	if len(text) > 64 {
		return bad
	}
	for part := range strings.SplitSeq(text, "/") {
		if part == "" || part[0] == '-' || strings.ContainsFunc(part, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '+' && r != '-' && r != '_'
		}) {
			return bad
		}
	}
	return nil
}
