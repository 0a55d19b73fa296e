package firmware

import (
	"errors"
	"slices"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// A resource to read: the flag that asks for it, and where its value goes.
type resource struct {
	flag fsm.Resources
	path lwm2m.Path
	code func(*fsm.Reading) *fsm.Code
}

// resources are those of Object 5.
var resources = []resource{
	{fsm.ReadState, pathState, func(r *fsm.Reading) *fsm.Code { return &r.State.Code }},
	{fsm.ReadResult, pathResult, func(r *fsm.Reading) *fsm.Code { return &r.Result.Code }},
	{fsm.ReadProtocols, pathProtocols, func(r *fsm.Reading) *fsm.Code { return &r.Protocols.Code }},
	{fsm.ReadDelivery, pathDelivery, func(r *fsm.Reading) *fsm.Code { return &r.Delivery.Code }},
	{fsm.ReadMaxDefer, pathMaxDefer, func(r *fsm.Reading) *fsm.Code { return &r.MaxDefer.Code }},
	{fsm.ReadAuto, pathAuto, func(r *fsm.Reading) *fsm.Code { return &r.Auto.Code }},
}

var versionResource = resource{fsm.ReadVersion, pathVersion, func(r *fsm.Reading) *fsm.Code { return &r.Version.Code }}

// composite is how a read uses Read-Composite, which reads Objects 5 and 3 in one request.
type composite uint8

const (
	compositeNo  composite = iota // not at all
	compositeTry                  // to find out whether the device answers it
	compositeYes                  // the device has answered it before
)

// compositeOf returns how to use Read-Composite by what is known of a device.
func compositeOf(known *store.Firmware) composite {
	switch {
	case known.Composite == nil:
		return compositeTry
	case *known.Composite:
		return compositeYes
	default:
		return compositeNo
	}
}

// A trial is what a read found out about Read-Composite.
type trial struct {
	done    bool
	answers *bool // the fact to store; nil: the device was silent, though it had answered before
}

// mayAnswerComposite reports whether a device registered with a version of LwM2M that has
// Read-Composite.
func mayAnswerComposite(r lwm2m.Registration) bool {
	return r.Version.Compare(lwm2m.Version{Major: 1, Minor: 1}) >= 0
}

// read reads the wanted resources into r. It reads Object 5 as a whole, in one request, so that
// State and Result belong together; if the device cannot do that, it reads resource by resource. It
// calls then with nil, or with an error if the device answered nothing; refusals are in r.
func (a *action) read(want fsm.Resources, r *fsm.Reading, then func(error)) {
	c := &reading{action: a, want: want, r: r, then: then}
	c.stale = want.Has(fsm.ReadDevice) && !a.device.current(a.device.version)
	if a.composite == compositeNo || !want.Has(fsm.ReadVersion) {
		c.object()
		return
	}
	c.wide = c.stale && a.composite == compositeYes
	c.compose()
}

// compose reads Object 5 and the version in one request, or with wide all of Object 3.
func (c *reading) compose() {
	paths := []lwm2m.Path{pathFirmware, pathVersion}
	if c.wide {
		paths[1] = pathDevice
	}
	c.request(lwm2m.Request{Operation: lwm2m.OpReadComposite, Paths: paths}, c.both)
}

// object reads Object 5.
func (c *reading) object() {
	c.request(lwm2m.Request{Operation: lwm2m.OpRead, Path: pathFirmware}, c.whole)
}

// A reading is the requests that together read a device.
type reading struct {
	*action
	want    fsm.Resources
	r       *fsm.Reading
	then    func(error)
	answers int
	refused bool // Read-Composite brought no State
	silent  bool // nor an answer
	stale   bool // the facts that are stored may be those of another firmware
	wide    bool // Read-Composite asks for all of Object 3
}

// both handles the answer to Read-Composite. Without a State in it the device is read the other
// way. If that shows one, the device does not answer Read-Composite; otherwise nothing was learned.
// A client that does not know the method may also be silent. One that knew it may have been away,
// or has lost it with an update of its firmware: it is tried once more.
func (c *reading) both(a lwm2m.Answer) {
	if a.Err == nil {
		fill(c.r, a.Entries, c.want)
	}
	switch {
	case c.busy(a.Err):
		c.then(nil)
	case c.r.State.OK():
		c.trial = trial{true, new(true)}
		if c.wide {
			c.learn(a.Entries)
		}
		c.whole(a)
	case c.wide && answered(a.Err): // the answer may have been too long for the device
		c.wide, *c.r = false, fsm.Reading{}
		c.compose()
	case a.Err != nil && !answered(a.Err) && !errors.Is(a.Err, lwm2m.ErrTimeout):
		c.then(a.Err)
	default:
		c.refused = true
		c.silent = a.Err != nil && !answered(a.Err)
		*c.r = fsm.Reading{}
		c.object()
	}
}

// busy records that the device is busy, which it says of all its resources: it is not asked for
// each.
func (c *reading) busy(err error) bool {
	if !unavailable(err) {
		return false
	}
	refuse(c.r, resources[0], err)
	return true
}

func unavailable(err error) bool {
	refusal, refused := errors.AsType[*lwm2m.ResponseError](err)
	return refused && refusal.Code == lwm2m.CodeUnavailable
}

// whole handles the answer to the read of the instance.
func (c *reading) whole(a lwm2m.Answer) {
	switch {
	case c.busy(a.Err):
		c.then(nil)
		return
	case a.Err == nil:
		c.answers++
		fill(c.r, a.Entries, c.want)
		if c.refused && c.r.State.OK() {
			c.trial = trial{true, new(false)}
			if c.silent && c.composite == compositeYes {
				c.trial.answers = nil
			}
		}
	case !answered(a.Err):
		c.then(a.Err)
		return
	}
	var missing []resource
	for _, res := range resources {
		// A resource that the instance left out is read by name only where the reason matters.
		must := res.flag == fsm.ReadState || res.flag == fsm.ReadResult
		switch {
		case !c.want.Has(res.flag) || *res.code(c.r) != fsm.CodeNone:
		case a.Err == nil && !must:
			*res.code(c.r) = fsm.CodeNotFound
		default:
			missing = append(missing, res)
		}
	}
	c.each(missing)
}

// each reads resource by resource.
func (c *reading) each(missing []resource) {
	if len(missing) == 0 {
		c.version()
		return
	}
	res := missing[0]
	c.request(lwm2m.Request{Operation: lwm2m.OpRead, Path: res.path}, func(a lwm2m.Answer) {
		if !c.take(res, a) {
			c.then(a.Err)
			return
		}
		if res.flag == fsm.ReadState && c.r.State.Code == fsm.CodeNotFound {
			missing = nil // the object does not exist, or reports nothing
		}
		c.each(missing[min(1, len(missing)):])
	})
}

// take records the answer to the read of one resource, and reports whether there was one.
func (c *reading) take(res resource, a lwm2m.Answer) bool {
	switch {
	case a.Err == nil:
		fill(c.r, a.Entries, res.flag)
		if *res.code(c.r) == fsm.CodeNone {
			*res.code(c.r) = fsm.CodeNotFound // an answer without a value
		}
	case !answered(a.Err):
		return false
	default:
		refuse(c.r, res, a.Err)
	}
	c.answers++
	return true
}

// version reads 3/0/3, if the State leaves something to learn from it, or all of Object 3, if that
// is due.
func (c *reading) version() {
	switch {
	case c.stale && c.device.read.Read.IsZero():
		c.objectDevice()
		return
	case !c.want.WantsVersion(c.r.State) || c.r.Version.Code != fsm.CodeNone:
		c.last()
		return
	}
	c.request(lwm2m.Request{Operation: lwm2m.OpRead, Path: pathVersion}, func(a lwm2m.Answer) {
		if !c.take(versionResource, a) && c.answers == 0 {
			c.then(a.Err)
			return
		}
		c.last()
	})
}

// last ends the reading once the facts are known: those that are stored, if the device has the
// firmware that they were read of.
func (c *reading) last() {
	if !c.want.Has(fsm.ReadDevice) {
		c.then(nil)
		return
	}
	version := c.device.version
	if c.r.Version.Code != fsm.CodeNone {
		version = fsm.VersionText(c.r.Version)
	}
	switch read := &c.device.read; {
	case !read.Read.IsZero():
		read.Basis = basisOf(c.device.links, version)
		c.r.Device = fsm.Known(read.Compatible())
	case c.device.current(version):
		c.r.Device = fsm.Known(c.device.stored.Compatible())
	case !c.stale:
		c.stale = true
		c.objectDevice()
		return
	}
	c.then(nil)
}

// answered reports whether err is a refusal of the device, or an answer that cannot be understood.
func answered(err error) bool {
	if _, ok := errors.AsType[*lwm2m.ResponseError](err); ok {
		return true
	}
	return errors.Is(err, lwm2m.ErrMalformed) || errors.Is(err, lwm2m.ErrUnsupportedFormat)
}

// nonsense stands for a State that is no number; no State equals it.
const nonsense fsm.State = -1

// noText stands for a version that is no text; no version equals it.
const noText = "\xff"

// fill copies the wanted entries into a reading.
func fill(r *fsm.Reading, entries []lwm2m.Entry, want fsm.Resources) {
	var protocols []fsm.Protocol
	for _, e := range entries {
		n, isNumber := e.Value.Int64()
		text, isText := e.Value.Text()
		yes, isBool := e.Value.Bool()
		switch path := e.Path.Prefix(3); {
		case path == pathState && want.Has(fsm.ReadState):
			if r.State = fsm.Known(nonsense); isNumber {
				r.State.Value = fsm.State(number(n))
			}
		case path == pathResult && isNumber && want.Has(fsm.ReadResult):
			r.Result = fsm.Known(fsm.Result(number(n)))
		case path == pathVersion && want.Has(fsm.ReadVersion):
			if r.Version = fsm.Known(noText); isText {
				r.Version.Value = text[:min(len(text), store.MaxText)]
			}
		case path == pathProtocols && isNumber && want.Has(fsm.ReadProtocols):
			if p, ok := fsm.ProtocolNumber(n); ok {
				protocols = append(protocols, p)
			}
			r.Protocols = fsm.Known(protocols)
		case path == pathDelivery && isNumber && want.Has(fsm.ReadDelivery):
			r.Delivery = fsm.Known(fsm.DeliverySupport(number(n)))
		case path == pathMaxDefer && isNumber && want.Has(fsm.ReadMaxDefer):
			const most = int64(365 * 24 * time.Hour / time.Second)
			r.MaxDefer = fsm.Known(time.Duration(min(max(n, 0), most)) * time.Second)
		case path == pathAuto && isBool && want.Has(fsm.ReadAuto):
			r.Auto = fsm.Known(yes)
		}
	}
}

// maxNumber limits the numbers of States and Results that are kept, in both directions.
const maxNumber = 1 << 30

// number keeps a number as the device sent it, for the journal, within bounds.
func number(n int64) int { return int(min(max(n, -maxNumber), maxNumber)) }

// refuse records that the device refused to report a resource. An answer that cannot be understood
// counts as a refusal, but as State or version it is a value that equals no other.
func refuse(r *fsm.Reading, res resource, err error) {
	*res.code(r) = fsm.CodeBadRequest
	if answer, ok := errors.AsType[*lwm2m.ResponseError](err); ok {
		*res.code(r) = fsm.Code(answer.Code)
		return
	}
	switch res.flag {
	case fsm.ReadState:
		r.State = fsm.Known(nonsense)
	case fsm.ReadVersion:
		r.Version = fsm.Known(noText)
	}
}

// firmwareFacts adds a reading to what was known of a device; ok is false if the reading says
// nothing. A resource that the device refuses or lacks is unknown.
func firmwareFacts(r fsm.Reading, known store.Firmware) (facts store.Firmware, ok bool) {
	facts = known
	if r.State.Code == fsm.CodeNotFound { // then the object has no other resource either
		facts.Result, facts.Delivery, facts.Protocols, facts.Auto = nil, nil, nil, nil
	}
	keep(&facts.State, r.State, &ok)
	keep(&facts.Result, r.Result, &ok)
	keep(&facts.Delivery, r.Delivery, &ok)
	keep(&facts.Auto, r.Auto, &ok)
	if r.Version.Code != fsm.CodeNone {
		facts.Version, ok = fsm.VersionText(r.Version), true
	}
	switch {
	case r.Protocols.OK():
		facts.Protocols, ok = []int{}, true
		for _, p := range r.Protocols.Value {
			facts.Protocols = append(facts.Protocols, p.Number())
		}
	case r.Protocols.Code != fsm.CodeNone:
		facts.Protocols = nil
	}
	return facts, ok
}

// keep sets a value that was read, or clears one that the device no longer reports.
func keep[T any](fact **T, f fsm.Field[T], ok *bool) {
	switch {
	case f.OK():
		*fact, *ok = new(f.Value), true
	case f.Code != fsm.CodeNone:
		*fact, *ok = nil, true
	}
}

// sameFacts compares everything but the time of the reading.
func sameFacts(a, b store.Firmware) bool {
	return same(a.State, b.State) && same(a.Result, b.Result) && a.Version == b.Version && same(a.Delivery, b.Delivery) && same(a.Composite, b.Composite) && same(a.Auto, b.Auto) &&
		slices.Equal(a.Protocols, b.Protocols) && (a.Protocols == nil) == (b.Protocols == nil) && a.Read.IsZero() == b.Read.IsZero()
}

// same reports whether two pointers are nil or point to equal values.
func same[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

// The resources of Object 5, and the firmware version of Object 3, by their paths.
var (
	pathFirmware   = lwm2m.NewPath(5, 0)
	pathPackage    = lwm2m.NewPath(5, 0, 0)
	pathPackageURI = lwm2m.NewPath(5, 0, 1)
	pathUpdate     = lwm2m.NewPath(5, 0, 2)
	pathState      = lwm2m.NewPath(5, 0, 3)
	pathResult     = lwm2m.NewPath(5, 0, 5)
	pathProtocols  = lwm2m.NewPath(5, 0, 8)
	pathDelivery   = lwm2m.NewPath(5, 0, 9)
	pathCancel     = lwm2m.NewPath(5, 0, 10)
	pathMaxDefer   = lwm2m.NewPath(5, 0, 13)
	pathAuto       = lwm2m.NewPath(5, 0, 14)
	pathVersion    = lwm2m.NewPath(3, 0, 3)
	pathDevice     = lwm2m.NewPath(3, 0)
)
