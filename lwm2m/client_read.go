package lwm2m

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/otago-iot/otago/internal/coap"
)

// get answers Read, Observe and Discover.
func (op *operation) get(ctx context.Context) (*coap.Response, error) {
	if f, ok := op.r.AcceptFormat().Get(); ok && ContentFormat(f) == FormatLink {
		return op.discover(ctx)
	}
	if v, ok := op.r.Observe(); ok && v == 0 {
		return op.observe(ctx, []Path{op.path})
	}
	entries, err := op.client.read(ctx, op.path)
	if err != nil {
		return nil, err
	}
	return op.content(op.path, entries)
}

// read returns the values at and below path, sorted.
func (c *Client) read(ctx context.Context, path Path) ([]Entry, error) {
	if err := c.exists(path); err != nil {
		return nil, err
	}
	o := c.objects[path.Object()]
	if path.Len() >= 3 {
		if err := c.allows(path, Readable); err != nil {
			return nil, err
		}
	}
	var entries []Entry
	if path.IsObject() {
		for _, id := range o.Instances() {
			below, err := o.Read(ctx, NewPath(path.Object(), id))
			if err != nil && !errors.Is(err, ErrNotFound) { // the instance may be gone
				return nil, err
			}
			entries = append(entries, below...)
		}
	} else {
		var err error
		if entries, err = o.Read(ctx, path); err != nil {
			return nil, err
		}
	}
	if path.Len() < 3 { // a resource that servers only write, such as a password, is in no answer
		entries = slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool {
			return errors.Is(c.allows(e.Path, Readable), ErrMethodNotAllowed)
		})
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.Path.Compare(b.Path) })
	return entries, nil
}

// content answers with entries, in the format that the server asks for, else in one that suits
// them.
func (op *operation) content(base Path, entries []Entry) (*coap.Response, error) {
	f := op.client.format(op.link.version, base, entries)
	if accept, ok := op.r.AcceptFormat().Get(); ok {
		f = ContentFormat(accept)
	}
	return op.client.encode(f, base, entries)
}

// encode makes a response with entries.
func (c *Client) encode(f ContentFormat, base Path, entries []Entry) (*coap.Response, error) {
	body, err := AppendPayload(nil, f, base, entries, c.models)
	if errors.Is(err, ErrUnsupportedFormat) || errors.Is(err, ErrNotEncodable) {
		return nil, fmt.Errorf("%w: %s as %s", ErrNotAcceptable, base, f)
	}
	if err != nil {
		return nil, err
	}
	return &coap.Response{Code: coap.Content, ContentFormat: coap.FormatOf(uint16(f)), Payload: body}, nil
}

// format returns the format for entries when the server asks for none: text or opaque for a single
// value, TLV for LwM2M 1.0 and SenML CBOR later for anything else.
func (c *Client) format(v Version, base Path, entries []Entry) ContentFormat {
	if base.Len() >= 3 && len(entries) == 1 && entries[0].Path == base {
		if entries[0].Value.Type() == TypeOpaque {
			return FormatOpaque
		}
		return FormatText
	}
	if v.Minor == 0 {
		return FormatTLV
	}
	return FormatSenMLCBOR
}
