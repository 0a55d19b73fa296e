package store

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/names"
)

// Bounds of the fields of records, in bytes.
const (
	MaxID       = 64       // of an update's or an image's id
	MaxEndpoint = 255      // of an endpoint name
	MaxName     = 255      // of an image's name or version, an event's name, an idempotency key
	MaxDetail   = 1024     // of Event.Detail
	MaxText     = 1024     // of any other text
	MaxLinks    = 64 << 10 // of Registration.Links
)

// Bounds of the labels of an update.
const (
	MaxLabels     = 16
	MaxLabelName  = 64  // bytes
	MaxLabelValue = 255 // bytes
)

// Bounds of the labels and facts of a device.
const (
	MaxDeviceLabels     = 32
	MaxDeviceLabelName  = 63  // bytes
	MaxDeviceLabelValue = 63  // bytes
	MaxFact             = 255 // bytes, of each text of Facts and Compatible
)

const sha256Digits = 64 // of SHA-256 in hex

// Normalize returns the change as every back end keeps it. A back end first calls it on each change
// of a Commit, so that all back ends agree on odd text. It refuses a bad change with an error that
// matches [ErrInvalid].
//
// Ids, endpoint names, versions of images and names of events must not be empty. They, the names
// of images and idempotency keys are valid UTF-8 without control characters, within their
// bounds. Other text comes from devices: bytes that are not UTF-8, and NUL, become U+FFFD. It is
// ErrInvalid if it is then too long; only an event's Detail is cut instead. Times become UTC,
// with microseconds, and have a year from 0 to 9999. Sizes and durations must not be negative.
// PutHolds has "" or 64 lower-case hex digits. The texts of Facts lose their control characters
// too, and are cut. An update's Machine has a phase, and each value of an enumeration has a
// name; one without could be written but not read.
//
// Normalize copies the slices and pointers of the record, except those within Machine.
func Normalize(c Change) (Change, error) {
	n := normalizer{}
	switch c := c.(type) {
	case CreateUpdate:
		n.update(&c.Update)
		n.machine(&c.Update)
		c.Update.own()
		return c, n.err
	case ReplaceUpdate:
		n.update(&c.Update)
		n.machine(&c.Update)
		c.Update.own()
		return c, n.err
	case DeleteUpdate:
		n.word("update id", c.ID, 1, MaxID)
		n.time(&c.At)
		return c, n.err
	case AppendEvents:
		c.Events = slices.Clone(c.Events)
		for i := range c.Events {
			n.event(&c.Events[i])
		}
		return c, n.err
	case CreateImage:
		n.image(&c.Image)
		return c, n.err
	case DeleteImage:
		n.word("image id", c.ID, 1, MaxID)
		return c, n.err
	case PutRegistration:
		n.word("endpoint", c.Endpoint, 1, MaxEndpoint)
		n.registration(&c.Registration)
		return c, n.err
	case PutFirmware:
		n.word("endpoint", c.Endpoint, 1, MaxEndpoint)
		n.firmware(&c.Firmware)
		return c, n.err
	case PutHolds:
		n.word("endpoint", c.Endpoint, 1, MaxEndpoint)
		if c.Holds != "" && (len(c.Holds) != sha256Digits || strings.Trim(c.Holds, "0123456789abcdef") != "") {
			n.fail("%q is no SHA-256 in lower-case hex", cut(c.Holds, MaxID))
		}
		return c, n.err
	case PutFacts:
		n.word("endpoint", c.Endpoint, 1, MaxEndpoint)
		n.facts(&c.Facts)
		return c, n.err
	case PutLabels:
		n.word("endpoint", c.Endpoint, 1, MaxEndpoint)
		n.first(CheckDeviceLabels(c.Labels))
		if c.Labels = maps.Clone(c.Labels); len(c.Labels) == 0 {
			c.Labels = nil
		}
		return c, n.err
	case DeleteDevice:
		n.word("endpoint", c.Endpoint, 1, MaxEndpoint)
		return c, n.err
	case RemoveDamaged:
		n.key(c.Kind, c.Key)
		return c, n.err
	}
	return nil, fmt.Errorf("%w: unknown change %T", ErrInvalid, c)
}

// Normalize makes of u what [Normalize] makes of the update of a change, for a back end that
// encodes the update at once: it copies nothing, and leaves it to AppendBinary to fail for a value
// of an enumeration without a name, which is [ErrInvalid] too.
func (u *Update) Normalize() error {
	n := normalizer{}
	n.update(u)
	return n.err
}

// Normalize makes of e what [Normalize] makes of a line of AppendEvents: the line as it comes back
// from a store. It does not look at the values of enumerations.
func (e *Event) Normalize() error {
	n := normalizer{}
	n.line(e)
	return n.err
}

// own copies the slices and maps of an update.
func (u *Update) own() { u.Labels, u.Tokens = maps.Clone(u.Labels), slices.Clone(u.Tokens) }

// CheckLabels returns an error that matches [ErrInvalid] if labels break their rules: at most
// [MaxLabels] labels; a name has 1 to [MaxLabelName] bytes of A to Z, a to z, 0 to 9, and - _ . and
// /; a value has up to [MaxLabelValue] bytes of UTF-8 without control characters, and may be empty.
func CheckLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return fmt.Errorf("%w: %d labels, more than %d", ErrInvalid, len(labels), MaxLabels)
	}
	if len(labels) == 0 {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		n := normalizer{}
		n.word("name of a label", name, 1, MaxLabelName)
		n.word("value of label "+cut(name, MaxLabelName), labels[name], 0, MaxLabelValue)
		if strings.ContainsFunc(name, notInLabelName) {
			n.fail("name of label %q has a character other than letters, digits and -_./", cut(name, MaxLabelName))
		}
		if n.err != nil {
			return n.err
		}
	}
	return nil
}

// CheckDeviceLabels returns an error that matches [ErrInvalid] if the labels of a device break
// their rules: at most [MaxDeviceLabels] labels; a name is a label of DNS, which is 1 to 63
// bytes of a to z, 0 to 9 and -, with a - neither first nor last; a value has up to
// [MaxDeviceLabelValue] bytes of UTF-8 without control characters, and may be empty.
func CheckDeviceLabels(labels map[string]string) error {
	if len(labels) > MaxDeviceLabels {
		return fmt.Errorf("%w: %d labels, more than %d", ErrInvalid, len(labels), MaxDeviceLabels)
	}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		n := normalizer{}
		n.word("name of a label", name, 1, MaxDeviceLabelName)
		n.word("value of label "+cut(name, MaxDeviceLabelName), labels[name], 0, MaxDeviceLabelValue)
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.HasPrefix(name, "-") || strings.HasSuffix(name, "-") {
			n.fail("name of label %q has a character other than a to z, 0 to 9 and -, or a - at an end", cut(name, MaxDeviceLabelName))
		}
		if n.err != nil {
			return n.err
		}
	}
	return nil
}

func notInLabelName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_./", r)
}

// A scratch is memory for an encoder, which would keep what it encodes from being on a stack.
type scratch struct {
	data    []byte
	machine fsm.Update
	event   Event
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// A normalizer keeps the first error.
type normalizer struct{ err error }

func (n *normalizer) update(u *Update) {
	n.word("update id", u.ID, 1, MaxID)
	n.word("endpoint", u.Endpoint, 1, MaxEndpoint)
	n.word("image id", u.Image, 1, MaxID)
	n.word("idempotency key", u.Key, 0, MaxName)
	n.first(CheckLabels(u.Labels))
	if u.Machine.Phase == "" {
		n.fail("update has no phase")
	}
	for i := range u.Tokens {
		n.word("token", u.Tokens[i], 1, MaxID)
	}
	n.text("later version", &u.Later.Version, MaxText)
	n.time(&u.Created)
	n.time(&u.Changed)
	n.time(&u.Later.Time)
}

// machine fails for a value of an enumeration without a name.
func (n *normalizer) machine(u *Update) {
	s := scratches.Get().(*scratch)
	s.machine = u.Machine
	n.encoded(s, func() ([]byte, error) { return machineCodec.Append(s.data[:0], &s.machine) })
}

func (n *normalizer) event(e *Event) {
	n.line(e)
	s := scratches.Get().(*scratch)
	s.event = *e
	n.encoded(s, func() ([]byte, error) { return eventCodec.AppendRange(s.data[:0], &s.event, firstWord, lastWord) })
}

func (n *normalizer) line(e *Event) {
	n.word("event's update id", e.Update, 1, MaxID)
	n.word("event's endpoint", e.Endpoint, 0, MaxEndpoint)
	n.word("event name", e.Name, 1, MaxName)
	e.Detail = cut(clean(e.Detail), MaxDetail)
	n.time(&e.Time)
}

func (n *normalizer) image(i *Image) {
	n.word("image id", i.ID, 1, MaxID)
	n.word("image name", i.Name, 0, MaxName)
	n.word("image version", i.Version, 1, MaxName)
	n.word("image digest", i.SHA256, 0, MaxID)
	if i.Size < 0 {
		n.fail("image size is negative")
	}
	n.word("compatible manufacturer", i.Compatible.Manufacturer, 0, MaxFact)
	n.word("compatible model", i.Compatible.Model, 0, MaxFact)
	n.word("compatible hardware", i.Compatible.Hardware, 0, MaxFact)
	n.time(&i.Created)
}

func (n *normalizer) firmware(f *Firmware) {
	n.text("firmware version", &f.Version, MaxText)
	n.text("component", &f.Component, MaxText)
	f.State, f.Result, f.Delivery = clone(f.State), clone(f.Result), clone(f.Delivery)
	f.Auto = clone(f.Auto)
	f.Protocols = slices.Clone(f.Protocols)
	f.Holds = "" // this change does not set it
	n.time(&f.Read)
}

// facts bounds texts of a device, which are compared and shown.
func (n *normalizer) facts(f *Facts) {
	for _, s := range []*string{&f.Manufacturer, &f.Model, &f.Hardware, &f.Zone, &f.Offset} {
		if *s = strings.Map(visible, clean(*s)); len(*s) > MaxFact {
			*s = cut(*s, MaxFact-len("…")) + "…" // so that it equals no shorter text
		}
	}
	n.word("basis of facts", f.Basis, 0, MaxID)
	n.time(&f.Read)
}

func visible(r rune) rune {
	if unicode.IsControl(r) {
		return unicode.ReplacementChar
	}
	return r
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

func (n *normalizer) registration(r *RegistrationRecord) {
	n.text("registration id", &r.ID, MaxText)
	n.text("address", &r.Address, MaxText)
	n.text("local address", &r.Local, MaxText)
	n.text("transport", &r.Transport, MaxText)
	n.text("LwM2M version", &r.Version, MaxText)
	n.text("binding", &r.Binding, MaxText)
	n.text("SMS number", &r.SMS, MaxText)
	n.text("profile id", &r.ProfileID, MaxText)
	n.text("attributes", &r.Attributes, MaxText)
	n.text("links", &r.Links, MaxLinks)
	n.text("identity", &r.Identity, MaxText)
	n.text("kind of identity", &r.IdentityKind, MaxText)
	if r.Lifetime < 0 {
		n.fail("lifetime is negative")
	}
	n.time(&r.Registered)
	n.time(&r.Updated)
	n.time(&r.LastSeen)
	n.time(&r.Ended)
}

// key checks the key of a record.
func (n *normalizer) key(kind Kind, key string) {
	switch kind {
	case KindUpdate, KindImage:
		n.word("id", key, 1, MaxID)
	case KindDevice:
		n.word("endpoint", key, 1, MaxEndpoint)
	case KindEvent:
		if seq, err := strconv.ParseUint(key, 10, 64); err != nil || strconv.FormatUint(seq, 10) != key {
			n.fail("%q is no sequence number", cut(key, MaxID))
		}
	default:
		n.fail("unknown kind %q", cut(string(kind), MaxID))
	}
}

// first keeps err if there is one, and none before it.
func (n *normalizer) first(err error) {
	if n.err == nil {
		n.err = err
	}
}

func (n *normalizer) fail(format string, args ...any) {
	n.first(fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...))
}

// word checks text by which records are found, and which therefore stays as it is.
func (n *normalizer) word(what, s string, least, most int) {
	if wrong := names.Check(s, least, most); wrong != "" {
		n.fail("%s %s", what, wrong)
	}
}

// text replaces bytes that some databases cannot store, in text for people.
func (n *normalizer) text(what string, s *string, most int) {
	if *s = clean(*s); len(*s) > most {
		n.fail("%s has %d bytes, more than %d", what, len(*s), most)
	}
}

// encoded fails for a value of an enumeration without a name. It returns s to the others.
func (n *normalizer) encoded(s *scratch, record func() ([]byte, error)) {
	data, err := record()
	if err != nil {
		n.fail("%w", err)
	}
	*s = scratch{data: data}
	scratches.Put(s)
}

func (n *normalizer) time(t *time.Time) {
	if t.IsZero() {
		return
	}
	*t = t.UTC().Truncate(time.Microsecond)
	if year := t.Year(); year < 0 || year > 9999 {
		n.fail("year %d cannot be written", year)
	}
}

func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// cut shortens s to at most n bytes without breaking a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
