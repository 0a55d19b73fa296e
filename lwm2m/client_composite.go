package lwm2m

import (
	"context"
	"fmt"
	"slices"

	"github.com/otago-iot/otago/internal/coap"
)

// maxCompositePaths bounds the paths of one composite request.
const maxCompositePaths = 256

// fetch answers Read-Composite and Observe-Composite.
func (op *operation) fetch(ctx context.Context) (*coap.Response, error) {
	f, ok := op.r.ContentFormat().Get()
	if !ok {
		return nil, ErrUnsupportedFormat
	}
	paths, err := codec{}.decodePaths(ContentFormat(f), op.r.Payload)
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 || len(paths) > maxCompositePaths {
		return nil, fmt.Errorf("%w: %d paths", ErrBadRequest, len(paths))
	}
	if v, ok := op.r.Observe(); ok && v == 0 {
		return op.observe(ctx, paths)
	}
	entries := op.client.readAll(ctx, paths)
	return op.content(Path{}, entries)
}

// readAll returns the readable values at and below paths.
func (c *Client) readAll(ctx context.Context, paths []Path) []Entry {
	var entries []Entry
	paths = slices.Clone(paths)
	slices.SortFunc(paths, Path.Compare)
	for i, path := range paths {
		if covered(paths[:i], path) {
			continue
		}
		objects := []Path{path}
		if path.IsRoot() {
			objects = objects[:0]
			for _, id := range c.ids {
				objects = append(objects, NewPath(id))
			}
		}
		for _, p := range objects {
			if below, err := c.read(ctx, p); err == nil { // skip what is absent or not readable
				entries = append(entries, below...)
			}
		}
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.Path.Compare(b.Path) })
	return slices.CompactFunc(entries, func(a, b Entry) bool { return a.Path == b.Path })
}

// covered reports whether a path, or one above it, is among others.
func covered(others []Path, path Path) bool {
	return slices.ContainsFunc(others, func(o Path) bool { return o.Len() <= path.Len() && path.Prefix(o.Len()) == o })
}

// patch answers Write-Composite. It checks everything before it writes anything; then objects apply
// their parts one by one, so a failure in a later object leaves what earlier ones wrote.
func (op *operation) patch(ctx context.Context) (*coap.Response, error) {
	f, ok := op.r.ContentFormat().Get()
	if !ok {
		return nil, ErrUnsupportedFormat
	}
	entries, err := DecodePayload(ContentFormat(f), Path{}, op.r.Payload, op.client.models)
	if err != nil {
		return nil, err
	}
	if entries, err = op.client.writable(entries); err != nil {
		return nil, err
	}
	byInstance := make(map[Path][]Entry)
	var order []Path
	for _, e := range entries {
		instance := e.Path.Prefix(2)
		if byInstance[instance] == nil {
			order = append(order, instance)
		}
		byInstance[instance] = append(byInstance[instance], e)
	}
	for i, instance := range order {
		part := byInstance[instance]
		if err := op.client.apply(ctx, instance, part, false); err != nil {
			if i > 0 {
				op.written(order[:i]...) // those before have changed
			}
			return nil, err
		}
	}
	return op.written(order...), nil
}
