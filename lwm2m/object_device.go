package lwm2m

import "context"

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
	// Values are further readable resources by their identifiers, asked at each read.
	Values map[uint16]func() Value
}

// ID implements [Object].
func (DeviceObject) ID() uint16 { return 3 }

// Version implements [Object].
func (DeviceObject) Version() string { return "" }

// Instances implements [Object].
func (DeviceObject) Instances() []uint16 { return []uint16{0} }

// Read implements [Object].
func (d DeviceObject) Read(ctx context.Context, path Path) ([]Entry, error) { return nil, ErrNotFound }

// Write implements [Object].
func (d DeviceObject) Write(ctx context.Context, path Path, entries []Entry, replace bool) error {
	return ErrMethodNotAllowed
}

// Execute implements [Object].
func (d DeviceObject) Execute(ctx context.Context, path Path, args string) error {
	return ErrMethodNotAllowed
}
