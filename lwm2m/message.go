package lwm2m

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/otago-iot/otago/internal/coap"
)

// segments returns the path as Uri-Path options, below the device's root.
func (t *turn) segments(path Path) []string {
	segments := t.path[:0]
	for s := range strings.SplitSeq(t.root, "/") {
		if s != "" {
			segments = append(segments, s)
		}
	}
	for i := range path.Len() {
		segments = append(segments, strconv.Itoa(int(path.id(i))))
	}
	return segments
}

// codec returns the codec for payloads of the device.
func (s *Server) codec(ss *session) codec {
	return codec{modelView: modelView{models: s.config.Models.view().models, device: ss}, root: ss.root}
}

// choosesFormat reports whether the format of the message depends on the device.
func (c *Call) choosesFormat() bool { return c.request.Format == nil && c.request.formatted() }

// formatted reports whether the message has a payload that several formats can carry.
func (r *Request) formatted() bool {
	switch r.Operation {
	case OpReadComposite, OpObserveComposite, OpWrite, OpWritePartial, OpWriteComposite, OpCreate:
		return true
	default:
		return false
	}
}

// textual reports whether the message is a value as plain text, which every client knows.
func (r *Request) textual() bool {
	return r.Operation == OpWrite && len(r.Entries) == 1 && r.Entries[0].Path == r.Path && r.Path.Len() >= 3 &&
		r.Entries[0].Value.Type() != TypeOpaque
}

var textFormat = []ContentFormat{FormatText}

// formats returns the formats in which to make the message for a device, the likeliest first; none
// if there is no choice. Unless all are wanted, it returns only the first of a textual message,
// since the others take the list of objects to be read.
func (r *Request) formats(reg Registration, all bool) []ContentFormat {
	switch {
	case !r.formatted():
		return nil
	case r.Format != nil:
		return []ContentFormat{*r.Format}
	case !all && r.textual():
		return textFormat
	case r.Operation == OpWrite, r.Operation == OpWritePartial:
		return writeFormats(reg, r.Path, r.Entries)
	case r.Operation == OpCreate:
		return createFormats(reg, r.Entries)
	default:
		return compositeFormats(reg)
	}
}

// message makes the message for the device as it is now, in the first format that can hold it. reg
// is used only if the format depends on the device.
func (c *Call) message(t *turn, reg Registration) (*coap.Request, error) {
	for {
		if c.formats == nil {
			c.formats = c.request.formats(reg, c.format > 0)
		}
		var f ContentFormat
		if c.format < len(c.formats) {
			f = c.formats[c.format]
		}
		msg, err := c.build(t, f)
		if err == nil {
			return msg, nil
		}
		if !c.nextFormat(err) {
			return nil, c.refused
		}
	}
}

// nextFormat records why a format was refused, and reports whether there is another to try.
func (c *Call) nextFormat(err error) bool {
	if c.refused == nil || !errors.Is(err, ErrNotEncodable) { // an error from the device is more useful
		c.refused = err
	}
	c.format++
	if c.format == 1 && c.request.Format == nil && c.request.textual() {
		c.formats = nil // the others follow
		return errors.Is(err, ErrUnsupportedFormat) || errors.Is(err, ErrNotAcceptable) || errors.Is(err, ErrNotEncodable)
	}
	return c.format < len(c.formats) &&
		(errors.Is(err, ErrUnsupportedFormat) || errors.Is(err, ErrNotAcceptable) || errors.Is(err, ErrNotEncodable))
}

// build makes the message. f is its content format if several can carry it.
func (c *Call) build(t *turn, f ContentFormat) (*coap.Request, error) {
	r := &c.request
	ss := &t.session
	codec := c.server.codec(ss)
	msg := &t.msg
	*msg = coap.Request{Path: t.segments(r.about())}
	var err error
	switch r.Operation {
	case OpRead, OpObserve:
		msg.Code = coap.GET
		if r.Format != nil { // without Accept the device chooses
			msg.Accept = coap.FormatOf(uint16(*r.Format))
		}
	case OpReadComposite, OpObserveComposite:
		msg.Code = coap.FETCH
		msg.ContentFormat = coap.FormatOf(uint16(f))
		msg.Accept = msg.ContentFormat
		msg.Payload, err = codec.appendPaths(nil, f, r.Paths)
	case OpDiscover:
		msg.Code = coap.GET
		msg.Accept = coap.FormatOf(uint16(FormatLink))
	case OpWrite:
		err = carry(msg, coap.PUT, codec, f, r)
	case OpWritePartial, OpCreate:
		err = carry(msg, coap.POST, codec, f, r)
	case OpWriteComposite:
		err = carry(msg, coap.IPATCH, codec, f, r)
	case OpWriteAttributes:
		msg.Code, msg.Queries = coap.PUT, r.Attributes.queries()
	case OpWriteStream:
		msg.Code = coap.PUT
		msg.ContentFormat = coap.FormatOf(uint16(FormatOpaque))
		msg.Body, msg.Size, msg.BlockSize = r.Body, r.Size, r.BlockSize
		msg.SkipTaken = r.SkipTaken
		msg.Progress = func(done, _ int64) { c.progress(ss, done) }
	case OpExecute:
		msg.Code, msg.Payload = coap.POST, []byte(r.Arguments)
		if r.Arguments != "" {
			msg.ContentFormat = coap.FormatOf(uint16(FormatText))
		}
	case OpDelete:
		msg.Code = coap.DELETE
	}
	return msg, err
}

// carry puts the entries of r into msg.
func carry(msg *coap.Request, code coap.Code, codec codec, f ContentFormat, r *Request) (err error) {
	msg.Code, msg.ContentFormat = code, coap.FormatOf(uint16(f))
	msg.Payload, err = codec.appendPayload(nil, f, r.about(), r.Entries)
	return err
}

// progress records that the device took a block.
func (c *Call) progress(ss *session, done int64) {
	c.server.answered(ss)
	if f := c.request.Progress; f != nil {
		c.server.guard("Progress", func() { f(done, c.request.Size) })
	}
}

// answer reads a successful answer.
func (c *Call) answer(ss *session, resp *coap.Response) (a Answer) {
	r := &c.request
	switch r.Operation {
	case OpRead, OpReadComposite:
		a.Entries, a.Err = c.server.codec(ss).answer(resp, r.about())
	case OpDiscover:
		a.Discovered, a.Err = parseDiscover(resp.Payload, ss.root)
	case OpCreate:
		if p, ok := locationOf(resp); ok && r.Path.Contains(p) && p.IsInstance() {
			a.Path = p
		} else if len(r.Entries) > 0 {
			a.Path = r.Entries[0].Path.Prefix(2)
		}
	}
	return a
}

// answer reads the payload of an answer in any format.
func (c codec) answer(resp *coap.Response, base Path) ([]Entry, error) {
	f := FormatText // what old clients mean when they name no format
	n, ok := resp.ContentFormat.Get()
	if ok {
		f = ContentFormat(n)
	}
	if len(resp.Payload) == 0 && (!ok || !c.emptyIsValue(f, base)) {
		return nil, nil
	}
	entries, err := c.decodePayload(f, base, resp.Payload)
	if errors.Is(err, ErrUnsupportedFormat) { // in which the device, not the caller, has chosen to answer
		err = fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return entries, err
}

// emptyIsValue reports whether an empty payload in format f is one value at base: an empty text or
// an empty opaque value. Any other empty payload means that there are no values: not every client
// sends the empty list of its format.
func (c codec) emptyIsValue(f ContentFormat, base Path) bool {
	f = f.canonical()
	return (f == FormatText || f == FormatOpaque) && isSingle(base, c.modelView)
}

// locationOf returns the path that an answer's Location-Path options name.
func locationOf(resp *coap.Response) (Path, bool) {
	var location strings.Builder
	for _, o := range resp.Options {
		if o.ID == coap.LocationPath {
			location.WriteByte('/')
			location.Write(o.Value)
		}
	}
	return parsePath(location.String())
}

// writeFormats returns the formats in which to write entries at path, the likeliest first: a single
// value as plain text or bytes, which every client knows, all else as instanceFormats says.
func writeFormats(r Registration, path Path, entries []Entry) []ContentFormat {
	rest := instanceFormats(r)
	if len(entries) != 1 || entries[0].Path != path || path.Len() < 3 {
		return rest
	}
	if entries[0].Value.Type() == TypeOpaque {
		// Not as text: some clients decode base64, others store it as it is.
		return append([]ContentFormat{FormatOpaque}, rest...)
	}
	return append([]ContentFormat{FormatText}, append(rest, FormatCBOR)...)
}

// createFormats returns the formats in which to create an instance, the likeliest first. SenML
// cannot name an instance without values, and some clients refuse an empty list of it.
func createFormats(r Registration, entries []Entry) []ContentFormat {
	switch {
	case r.Version == (Version{Major: 1}), slices.ContainsFunc(entries, func(e Entry) bool { return !e.Value.isZero() }):
		return instanceFormats(r)
	case len(entries) > 0:
		return announcedFirst(r, FormatTLV, FormatLwM2MCBOR)
	default:
		return announcedFirst(r, FormatTLV, FormatLwM2MCBOR, FormatSenMLCBOR, FormatSenMLJSON)
	}
}

// instanceFormats returns the formats in which to write several values, the likeliest first.
func instanceFormats(r Registration) []ContentFormat {
	if r.Version == (Version{Major: 1}) {
		return announcedFirst(r, FormatTLV, FormatJSON)
	}
	return announcedFirst(r, FormatSenMLCBOR, FormatTLV, FormatSenMLJSON, FormatLwM2MCBOR)
}

// compositeFormats returns the formats for composite requests, the likeliest first.
func compositeFormats(r Registration) []ContentFormat {
	return announcedFirst(r, FormatSenMLCBOR, FormatSenMLJSON, FormatLwM2MCBOR)
}

// announcedFirst puts the formats that the device announced before the others.
func announcedFirst(r Registration, formats ...ContentFormat) []ContentFormat {
	announced := r.Objects().Formats
	slices.SortStableFunc(formats, func(a, b ContentFormat) int {
		return rank(announced, a) - rank(announced, b)
	})
	return formats
}

func rank(announced []ContentFormat, f ContentFormat) int {
	if slices.Contains(announced, f) {
		return 0
	}
	return 1
}
