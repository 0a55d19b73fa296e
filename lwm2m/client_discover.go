package lwm2m

import (
	"context"
	"fmt"
	"slices"

	"github.com/otago-iot/otago/internal/coap"
)

// maxAttributePaths bounds the paths to which a server may attach attributes.
const maxAttributePaths = 256

// writeAttributes answers Write-Attributes.
func (op *operation) writeAttributes(ctx context.Context) (*coap.Response, error) {
	if len(op.r.Queries()) == 0 {
		return nil, fmt.Errorf("%w: neither a value nor attributes", ErrBadRequest)
	}
	change, err := parseAttributes(op.r.Queries()...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	if op.path.Len() >= 3 {
		if err := op.client.allows(op.path, Readable); err != nil {
			return nil, err
		}
	}
	if err := op.client.setAttributes(op.path, change); err != nil {
		return nil, err
	}
	op.link.notifier.rethink()
	return &coap.Response{Code: coap.Changed}, nil
}

func (c *Client) setAttributes(path Path, change Attributes) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	after := c.attributes[path].apply(change)
	if err := after.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	if after.isZero() {
		delete(c.attributes, path)
		return nil
	}
	if _, ok := c.attributes[path]; !ok && len(c.attributes) >= maxAttributePaths {
		return fmt.Errorf("%w: too many paths with attributes", ErrUnavailable)
	}
	c.attributes[path] = after
	return nil
}

// effective returns the attributes that apply to an observation of path: those of the path, then
// those of the levels above it, then the server's defaults.
func (c *Client) effective(path Path) Attributes {
	c.mu.Lock()
	defer c.mu.Unlock()
	var a Attributes
	for n := path.Len(); n > 0; n-- {
		a = a.inherit(c.attributes[path.Prefix(n)])
	}
	return a.inherit(c.control.defaults())
}

// attached returns the attributes that a server has written to path itself.
func (c *Client) attached(path Path) Attributes {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.attributes[path]
}

// A ResourceLister is an [Object] that lists its resources for Discover. For any other object
// Discover lists the resources that can be read, and the mandatory ones of its model that cannot.
type ResourceLister interface {
	Object
	// Resources returns the identifiers of the resources of an instance, ascending. The slice is
	// the caller's.
	Resources(instance uint16) []uint16
}

// discover answers Discover.
func (op *operation) discover(ctx context.Context) (*coap.Response, error) {
	if op.path.IsResourceInstance() {
		return nil, ErrMethodNotAllowed
	}
	c := op.client
	var found []Discovered
	add := func(p Path, dim int) {
		d := Discovered{Path: p, Dimension: dim, Attributes: c.attached(p)}
		if p.IsObject() {
			d.Version = objectVersion(c.objects[p.Object()])
		}
		found = append(found, d)
	}
	add(op.path.Prefix(min(op.path.Len(), 2)), -1)
	o := c.objects[op.path.Object()]
	for _, id := range o.Instances() {
		instance := NewPath(op.path.Object(), id)
		if op.path.Len() >= 2 && op.path.Instance() != id {
			continue
		}
		if op.path.IsObject() {
			add(instance, -1)
		}
		for _, r := range c.resources(ctx, o, instance) {
			add(r.path, r.dim)
		}
	}
	if op.path.IsResource() {
		found = slices.DeleteFunc(found, func(d Discovered) bool { return d.Path != op.path })
		if len(found) == 0 {
			return nil, ErrNotFound
		}
	}
	return &coap.Response{
		Code: coap.Content, ContentFormat: coap.FormatOf(uint16(FormatLink)), Payload: appendDiscover(nil, "", found),
	}, nil
}

// presentResource is a resource of an instance. dim is the number of instances of a multiple
// resource, and -1 for a single one.
type presentResource struct {
	path Path
	dim  int
}

// resources returns the resources of an instance, ascending.
func (c *Client) resources(ctx context.Context, o Object, instance Path) []presentResource {
	dims := make(map[uint16]int)
	entries, err := c.read(ctx, instance)
	if err != nil {
		entries = nil // list the resources that are known without values
	}
	for _, e := range entries {
		if e.Path.IsResourceInstance() {
			dims[e.Path.Resource()]++
		} else if e.Path.IsResource() {
			dims[e.Path.Resource()] = -1
		}
	}
	if l, ok := o.(ResourceLister); ok {
		for _, id := range l.Resources(instance.Instance()) {
			c.addAbsent(dims, instance, id)
		}
	} else if m, ok := c.model(instance.Object()); ok {
		for _, r := range m.Resources {
			if r.Mandatory && !r.Operations.has(Readable) {
				c.addAbsent(dims, instance, r.ID)
			}
		}
	}
	found := make([]presentResource, 0, len(dims))
	for id, dim := range dims {
		path, err := instance.checkedChild(id)
		if err == nil {
			found = append(found, presentResource{path, dim})
		}
	}
	slices.SortFunc(found, func(a, b presentResource) int { return a.path.Compare(b.path) })
	return found
}

// addAbsent adds a resource that may have no value.
func (c *Client) addAbsent(dims map[uint16]int, instance Path, id uint16) {
	path, err := instance.checkedChild(id)
	if _, ok := dims[id]; ok || err != nil {
		return
	}
	dims[id] = -1
	if c.multiple(path) {
		dims[id] = 0
	}
}
