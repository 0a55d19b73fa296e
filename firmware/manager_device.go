package firmware

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// deviceFacts are the facts of a device as an action knows them. They are read again when the
// device has other objects, or another version of its firmware: that may also report them
// differently.
type deviceFacts struct {
	stored  store.Facts
	version string      // that is stored
	links   string      // of the registration
	read    store.Facts // what the action has read; not Read if it has not
}

// factsOf returns what is known of the facts of a device. reg is its registration, if it has one.
func factsOf(d *store.Device, reg lwm2m.Registration, registered bool) *deviceFacts {
	f := &deviceFacts{stored: d.Facts, version: d.Firmware.Version, links: d.Registration.Links}
	if registered {
		f.links = reg.Links
	}
	return f
}

// current reports whether the stored facts are those of a firmware with this version.
func (f *deviceFacts) current(version string) bool {
	return !f.stored.Read.IsZero() && f.stored.Basis == basisOf(f.links, version)
}

// basisOf returns a store.Facts.Basis.
func basisOf(links, version string) string {
	sum := sha256.Sum256([]byte(version + "\x00" + links))
	return hex.EncodeToString(sum[:8])
}

// A factResource is a resource of Object 3 that is a fact.
type factResource struct {
	path lwm2m.Path
	of   func(*store.Facts) *string
}

var factResources = []factResource{
	{lwm2m.NewPath(3, 0, 0), func(f *store.Facts) *string { return &f.Manufacturer }},
	{lwm2m.NewPath(3, 0, 1), func(f *store.Facts) *string { return &f.Model }},
	{lwm2m.NewPath(3, 0, 18), func(f *store.Facts) *string { return &f.Hardware }},
	{lwm2m.NewPath(3, 0, 15), func(f *store.Facts) *string { return &f.Zone }},
	{lwm2m.NewPath(3, 0, 14), func(f *store.Facts) *string { return &f.Offset }},
}

// objectDevice reads Object 3, in one request, or resource by resource if the device refuses that.
func (c *reading) objectDevice() {
	c.request(lwm2m.Request{Operation: lwm2m.OpRead, Path: pathDevice}, func(a lwm2m.Answer) {
		switch refused := a.Err != nil && answered(a.Err) && !unavailable(a.Err); {
		case a.Err == nil:
			c.answers++
			fill(c.r, a.Entries, c.want&fsm.ReadVersion)
			c.learn(a.Entries)
			c.version()
		case refused:
			c.answers++
			c.eachFact(factResources, nil)
		case c.answers == 0:
			c.then(a.Err)
		default: // the facts stay unknown
			c.then(nil)
		}
	})
}

// eachFact reads the facts one by one. entries are those that the device has shown.
func (c *reading) eachFact(missing []factResource, entries []lwm2m.Entry) {
	if len(missing) == 0 {
		c.learn(entries)
		c.version()
		return
	}
	c.request(lwm2m.Request{Operation: lwm2m.OpRead, Path: missing[0].path}, func(a lwm2m.Answer) {
		if a.Err != nil && (!answered(a.Err) || unavailable(a.Err)) {
			c.then(nil) // the facts stay unknown
			return
		}
		c.eachFact(missing[1:], append(entries, a.Entries...))
	})
}

// learn records the facts in what a device has answered. Those that are missing the device lacks.
func (c *reading) learn(entries []lwm2m.Entry) {
	f := store.Facts{Read: c.m.clock.now()}
	for _, e := range entries {
		text, ok := e.Value.Text()
		for _, res := range factResources {
			if ok && e.Path.Prefix(3) == res.path {
				*res.of(&f) = strings.Trim(text, " \t\r\n\x00")
			}
		}
	}
	// What the store makes of odd text is also what an image is compared with.
	if change, err := store.Normalize(store.PutFacts{Endpoint: c.endpoint, Facts: f}); err == nil {
		f = change.(store.PutFacts).Facts
	}
	c.device.read = f
}

// Incompatible says in words why an image is not made for a device, or "" if it is, by the facts
// that are stored. known is false if the image asks for facts, and those of the device have not
// been read, or not since its objects or its version changed: its update reads them first.
func Incompatible(image Image, d *store.Device) (why string, known bool) {
	f := factsOf(d, lwm2m.Registration{}, false)
	return f.incompatible(image)
}

func (f *deviceFacts) incompatible(image Image) (why string, known bool) {
	switch {
	case image.Compatible == store.Compatible{}:
		return "", true
	case !f.current(f.version):
		return "", false
	}
	return image.Compatible.Mismatch(f.stored.Compatible()), true
}
