package lwm2m

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// DeviceObject is object 3, Device. Zero fields are resources that the device does not have.
type DeviceObject struct {
	Manufacturer, Model, Serial string
	// FirmwareVersion is resource 3. It is what an update is judged by.
	FirmwareVersion string
	// FirmwareVersionFunc is asked instead of FirmwareVersion if it is set.
	FirmwareVersionFunc func() string
	HardwareVersion     string
	SoftwareVersion     string
	DeviceType          string
	// Reboot is called after the answer to the server's order to reboot was sent. Default: the order is refused with 5.01.
	Reboot func()
	// FactoryReset is the same for a factory reset. Default: the resource is absent.
	FactoryReset func()
	// Values are further readable resources by their identifiers, asked at each read. A multiple resource has the one
	// instance 0.
	Values map[uint16]func() Value
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
	deviceBindings        = 16
	deviceType            = 17
	deviceHardwareVersion = 18
	deviceSoftwareVersion = 19
)

// ID implements [Object].
func (DeviceObject) ID() uint16 { return 3 }

// Version implements [Object].
func (DeviceObject) Version() string { return "" }

// Instances implements [Object].
func (DeviceObject) Instances() []uint16 { return []uint16{0} }

// Resources implements [ResourceLister].
func (d DeviceObject) Resources(uint16) []uint16 {
	ids := []uint16{deviceReboot}
	if d.FactoryReset != nil {
		ids = append(ids, deviceFactoryReset)
	}
	return ids
}

// Read implements [Object].
func (d DeviceObject) Read(_ context.Context, path Path) ([]Entry, error) {
	firmware := d.FirmwareVersion
	if d.FirmwareVersionFunc != nil {
		firmware = d.FirmwareVersionFunc()
	}
	var entries []Entry
	for _, r := range []struct {
		id   uint16
		text string
	}{
		{deviceManufacturer, d.Manufacturer}, {deviceModel, d.Model}, {deviceSerial, d.Serial}, {deviceFirmwareVersion, firmware},
		{deviceBindings, "U"}, {deviceType, d.DeviceType}, {deviceHardwareVersion, d.HardwareVersion},
		{deviceSoftwareVersion, d.SoftwareVersion},
	} {
		if r.text != "" && d.Values[r.id] == nil {
			entries = append(entries, Entry{Path: NewPath(3, 0, r.id), Value: String(r.text)})
		}
	}
	if d.Values[deviceErrorCode] == nil {
		entries = append(entries, Entry{Path: NewPath(3, 0, deviceErrorCode, 0), Value: Integer(0)}) // no error
	}
	for _, id := range slices.Sorted(maps.Keys(d.Values)) {
		path := NewPath(3, 0, id)
		if m, ok := (*Models)(nil).Resource(path); ok && m.Multiple {
			path = NewPath(3, 0, id, 0)
		}
		entries = append(entries, Entry{Path: path, Value: d.Values[id]()})
	}
	return selectEntries(path, entries)
}

// Write implements [Object]; nothing can be written.
func (d DeviceObject) Write(context.Context, Path, []Entry, bool) error {
	return fmt.Errorf("%w: object 3 is not written", ErrMethodNotAllowed)
}

// Execute implements [Object].
func (d DeviceObject) Execute(ctx context.Context, path Path, _ string) error {
	switch path.Resource() {
	case deviceReboot:
		if d.Reboot == nil {
			return fmt.Errorf("%w: this device does not reboot", ErrNotImplemented)
		}
		AfterResponse(ctx, d.Reboot)
	case deviceFactoryReset:
		if d.FactoryReset == nil {
			return fmt.Errorf("%w: %s", ErrNotFound, path)
		}
		AfterResponse(ctx, d.FactoryReset)
	default:
		return fmt.Errorf("%w: %s", ErrNotFound, path)
	}
	return nil
}
