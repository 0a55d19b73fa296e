package firmware

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// resources are those of Object 5 that are read, with the flags that ask for them.
var resources = []struct {
	flag fsm.Resources
	path lwm2m.Path
}{
	{fsm.ReadState, pathState},
	{fsm.ReadResult, pathResult},
	{fsm.ReadPackage, pathPkgVersion},
	{fsm.ReadProtocols, pathProtocols},
	{fsm.ReadDelivery, pathDelivery},
	{fsm.ReadMaxDefer, pathMaxDefer},
}

// read reads what the machine asks for. Object 5 is read as a whole, in one request, so that State and Result belong
// together; from a device that cannot do that, resource by resource. The error is that of a device that answered nothing:
// refusals stand in the reading.
func (m *Manager) read(ctx context.Context, endpoint string, want fsm.Resources) (fsm.Reading, error) {
	var r fsm.Reading
	answers := 0
	if want&^fsm.ReadVersion != 0 {
		entries, err := m.srv.Read(ctx, endpoint, pathFirmware, lwm2m.NoWait())
		switch {
		case err == nil:
			answers++
			fill(&r, entries, want)
		case !answered(err):
			return r, err
		}
		for _, res := range resources {
			// What the instance left out is asked for by name only where it matters to know why.
			must := res.flag == fsm.ReadState || res.flag == fsm.ReadResult
			if !want.Has(res.flag) || (err == nil && !must) || filled(&r, res.flag) {
				continue
			}
			entries, err := m.srv.Read(ctx, endpoint, res.path, lwm2m.NoWait())
			switch {
			case err == nil:
				fill(&r, entries, res.flag)
			case answered(err):
				refuse(&r, res.flag, err)
			default:
				return r, err
			}
			answers++
		}
	}
	if want.Has(fsm.ReadVersion) {
		entries, err := m.srv.Read(ctx, endpoint, pathVersion, lwm2m.NoWait())
		switch {
		case err == nil:
			fill(&r, entries, fsm.ReadVersion)
		case answered(err):
			refuse(&r, fsm.ReadVersion, err)
		case answers == 0:
			return r, err
		}
	}
	return r, nil
}

// answered reports whether err is the device's own refusal, or an answer that could not be understood.
func answered(err error) bool {
	if _, ok := errors.AsType[*lwm2m.ResponseError](err); ok {
		return true
	}
	return errors.Is(err, lwm2m.ErrMalformed) || errors.Is(err, lwm2m.ErrUnsupportedFormat)
}

// fill puts the entries that are wanted into a reading.
func fill(r *fsm.Reading, entries []lwm2m.Entry, want fsm.Resources) {
	var protocols []fsm.Protocol
	for _, e := range entries {
		n, isNumber := e.Value.Int64()
		text, isText := e.Value.Text()
		switch path := e.Path.Prefix(3); {
		case path == pathState && isNumber && want.Has(fsm.ReadState):
			r.State = fsm.Known(fsm.State(n))
		case path == pathResult && isNumber && want.Has(fsm.ReadResult):
			r.Result = fsm.Known(fsm.Result(n))
		case path == pathVersion && isText && want.Has(fsm.ReadVersion):
			r.Version = fsm.Known(word(text))
		case path == pathPkgVersion && isText && want.Has(fsm.ReadPackage):
			r.Package = fsm.Known(word(text))
		case path == pathProtocols && isNumber && want.Has(fsm.ReadProtocols):
			if p, ok := fsm.ProtocolNumber(n); ok {
				protocols = append(protocols, p)
			}
			r.Protocols = fsm.Known(protocols)
		case path == pathDelivery && isNumber && want.Has(fsm.ReadDelivery):
			r.Delivery = fsm.Known(fsm.DeliveryMethod(n))
		case path == pathMaxDefer && isNumber && want.Has(fsm.ReadMaxDefer):
			const most = int64(365 * 24 * time.Hour / time.Second)
			r.MaxDefer = fsm.Known(time.Duration(min(max(n, 0), most)) * time.Second)
		}
	}
}

// word makes a device's text fit to be stored. What is longer than any version that an image may have equals none of them.
func word(text string) string {
	text = strings.ToValidUTF8(text[:min(len(text), store.MaxName+1)], "\uFFFD")
	return strings.ReplaceAll(text, "\x00", "\uFFFD")
}

// filled reports whether a reading has a value for the resource of one flag.
func filled(r *fsm.Reading, flag fsm.Resources) bool {
	switch flag {
	case fsm.ReadState:
		return r.State.OK()
	case fsm.ReadResult:
		return r.Result.OK()
	case fsm.ReadPackage:
		return r.Package.OK()
	case fsm.ReadProtocols:
		return r.Protocols.OK()
	case fsm.ReadDelivery:
		return r.Delivery.OK()
	case fsm.ReadMaxDefer:
		return r.MaxDefer.OK()
	default:
		return r.Version.OK()
	}
}

// refuse notes the device's refusal to tell the resource of one flag.
func refuse(r *fsm.Reading, flag fsm.Resources, err error) {
	code := fsm.CodeBadRequest
	if answer, ok := errors.AsType[*lwm2m.ResponseError](err); ok {
		code = fsm.Code(answer.Code)
	}
	switch flag {
	case fsm.ReadState:
		r.State = fsm.Refused[fsm.State](code)
	case fsm.ReadResult:
		r.Result = fsm.Refused[fsm.Result](code)
	case fsm.ReadPackage:
		r.Package = fsm.Refused[string](code)
	case fsm.ReadProtocols:
		r.Protocols = fsm.Refused[[]fsm.Protocol](code)
	case fsm.ReadDelivery:
		r.Delivery = fsm.Refused[fsm.DeliveryMethod](code)
	case fsm.ReadMaxDefer:
		r.MaxDefer = fsm.Refused[time.Duration](code)
	default:
		r.Version = fsm.Refused[string](code)
	}
}

// firmwareFacts adds what a reading says to what was known of a device; ok is false if it says nothing.
func firmwareFacts(r fsm.Reading, known store.Firmware) (facts store.Firmware, ok bool) {
	facts = known
	if r.State.OK() {
		facts.State, ok = new(r.State.Value), true
	}
	if r.Result.OK() {
		facts.Result, ok = new(r.Result.Value), true
	}
	if r.Version.OK() {
		facts.Version, ok = r.Version.Value, true
	}
	if r.Protocols.OK() {
		facts.Protocols, ok = []int{}, true
		for _, p := range r.Protocols.Value {
			facts.Protocols = append(facts.Protocols, p.Number())
		}
	}
	if r.Delivery.OK() {
		facts.Delivery, ok = new(r.Delivery.Value), true
	}
	return facts, ok
}

// sameFacts compares all but the time of the reading.
func sameFacts(a, b store.Firmware) bool {
	return same(a.State, b.State) && same(a.Result, b.Result) && a.Version == b.Version && same(a.Delivery, b.Delivery) &&
		slices.Equal(a.Protocols, b.Protocols) && (a.Protocols == nil) == (b.Protocols == nil) && a.Read.IsZero() == b.Read.IsZero()
}

// same compares what two pointers lead to.
func same[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }
