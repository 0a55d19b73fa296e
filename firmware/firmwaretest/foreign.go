package firmwaretest

import (
	"cmp"
	"context"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// Foreign is a package that the device holds in State Downloaded when it first boots, and that the
// server never sent: it may come from an earlier campaign, from another server, or from a
// technician. Clients that keep State over a restart show it (Anjay's demo with its marker file,
// otago's own), as does Wakaama's example, once its Object 5 was executed. A server that takes
// Downloaded for its own package installs this one.
//
// A reset, a cancel or a restart with another version ends it; then the device takes packages like
// any other.
type Foreign struct {
	// Version is what runs after the package was executed; "" keeps the running version.
	Version string
	// Name and PkgVersion are 5/0/6 and 5/0/7, "" for a device without them. PkgVersion can say
	// anything, also the version that the server is about to send.
	Name, PkgVersion string
	// URI says how the device treats a Package URI that is written meanwhile.
	URI ForeignURI
	// Refusal is the answer to a URI that is refused and to a package that is pushed. Default:
	// 4.00, as of Anjay; the specification allows 4.05 as well, which Zephyr gives to a push.
	Refusal lwm2m.ResponseCode
}

// ForeignURI is what a device with a [Foreign] package does with a Package URI.
type ForeignURI uint8

const (
	// RefusesURI answers with [Foreign.Refusal].
	RefusesURI ForeignURI = iota
	// IgnoresURI answers 2.04 and does nothing, but 5/0/1 shows the new URI: Zephyr.
	IgnoresURI
	// TakesURI answers 2.04 and downloads, and shows State Downloaded all the time. Afterwards the
	// device holds the downloaded package; if the download fails, the Result says how, and the
	// foreign package stays.
	TakesURI
)

func (f *Foreign) refusal() error {
	return &lwm2m.ResponseError{Code: cmp.Or(f.Refusal, lwm2m.CodeBadRequest)}
}

// foreignURI handles a Package URI while there is a foreign package. o.mu is held.
func (o *object) foreignURI(uri string) error {
	switch o.foreign.URI {
	case IgnoresURI:
		o.uri = uri
		return nil
	case TakesURI:
		o.halt()
		go o.replace(o.transfer(uri), uri)
		return nil
	default:
		return o.foreign.refusal()
	}
}

// replace downloads a package in the place of the foreign one, and reports nothing meanwhile.
func (d *Device) replace(ctx context.Context, uri string) {
	result, ok := d.pull(ctx, uri)
	if !ok {
		return
	}
	d.mu.Lock()
	if result == fsm.ResultDefault {
		d.foreign = nil
	}
	d.mu.Unlock()
	d.show(ctx, fsm.Downloaded, result)
}

// pkg returns the values of 5/0/6 and 5/0/7. d.mu is held.
func (d *Device) pkg() (name, version string) {
	if d.foreign != nil {
		return d.foreign.Name, d.foreign.PkgVersion
	}
	return d.script.PkgName, d.script.PkgVersion
}

// installation returns the effect of Execute on the present package.
func (d *Device) installation() Install {
	d.mu.Lock()
	defer d.mu.Unlock()
	in := d.script.Install
	if d.foreign != nil {
		in.Version, in.Result = d.foreign.Version, fsm.ResultDefault
	}
	return in
}
