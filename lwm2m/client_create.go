package lwm2m

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/otago-iot/otago/internal/coap"
)

// create answers Create.
func (op *operation) create(ctx context.Context) (*coap.Response, error) {
	c, id := op.client, op.path.Object()
	o, ok := c.objects[id].(InstanceCreator)
	if v, values := o.(interface{ creates() bool }); !ok || values && !v.creates() {
		return nil, fmt.Errorf("%w: servers create no instances of object %d", ErrMethodNotAllowed, id)
	}
	entries, named, err := op.newInstance()
	if err != nil {
		return nil, err
	}
	c.creating.Lock() // so that two Creates do not get the same free identifier
	defer c.creating.Unlock()
	present := o.Instances()
	instance := entries[0].Path.Prefix(2)
	if !named {
		if instance, err = freeInstance(id, present); err != nil {
			return nil, err
		}
		for i := range entries {
			entries[i].Path.ids[1] = instance.Instance()
		}
	}
	if err := c.creatable(instance, present, entries); err != nil {
		return nil, err
	}
	if err := o.Create(ctx, instance.Instance(), entries); err != nil {
		return nil, err
	}
	resp := op.written(instance)
	resp.Code = coap.Created
	if !named {
		for _, id := range []uint16{id, instance.Instance()} {
			resp.Options = coap.AppendString(resp.Options, coap.LocationPath, strconv.Itoa(int(id)))
		}
	}
	return resp, nil
}

// newInstance returns the values of a Create, at least one entry, all of one instance, and whether
// the server named the instance. If it did not, the entries are below instance 0.
func (op *operation) newInstance() (entries []Entry, named bool, err error) {
	if f, ok := op.r.ContentFormat().Get(); ok {
		if entries, err = DecodePayload(ContentFormat(f), op.path, op.r.Payload, op.client.models); err != nil {
			return nil, false, err
		}
		// TLV omits the level of instances if the client is to choose the instance. The other
		// formats name the instance with each value.
		tlv := ContentFormat(f).canonical() == FormatTLV
		named = len(entries) > 0 && !(tlv && op.r.Payload[0]>>6 != 0)
	} else if len(op.r.Payload) > 0 {
		return nil, false, fmt.Errorf("%w: a Create with a payload needs a content format", ErrUnsupportedFormat)
	}
	if len(entries) == 0 {
		entries = []Entry{{Path: op.path.child(0)}}
	}
	for _, e := range entries {
		if e.Path.Len() < 2 || e.Path.Instance() != entries[0].Path.Instance() {
			return nil, false, fmt.Errorf("%w: a Create makes one instance", ErrBadRequest)
		}
	}
	return entries, named, nil
}

// freeInstance returns the lowest instance of an object that does not exist. present is ascending.
func freeInstance(object uint16, present []uint16) (Path, error) {
	for i, id := range append(present, NoID) {
		if i == int(NoID) {
			break
		}
		if int(id) != i {
			return NewPath(object, uint16(i)), nil
		}
	}
	return Path{}, fmt.Errorf("%w: object %d has every instance", ErrBadRequest, object)
}

// creatable checks a new instance against the model. It refuses with 4.00 an instance that exists,
// a second instance of a single-instance object, and an instance without a mandatory resource that
// servers write.
func (c *Client) creatable(instance Path, present []uint16, entries []Entry) error {
	if slices.Contains(present, instance.Instance()) {
		return fmt.Errorf("%w: %s exists", ErrBadRequest, instance)
	}
	model, known := c.model(instance.Object())
	if known && !model.Multiple && (len(present) > 0 || instance.Instance() != 0) {
		return fmt.Errorf("%w: object %d has one instance, 0", ErrBadRequest, instance.Object())
	}
	for _, e := range entries {
		if err := c.has(e.Path); err != nil {
			return err
		}
		if err := c.takes(e); err != nil {
			return err
		}
	}
	return c.complete(instance, entries, func(uint16) bool { return true })
}

// delete answers Delete, of an instance or of an instance of a multiple resource. The specification
// has the latter since LwM2M 1.2; clients of 1.1 know resource instances too.
func (op *operation) delete(ctx context.Context) (*coap.Response, error) {
	c, path := op.client, op.path
	o, ok := c.objects[path.Object()].(InstanceCreator)
	if !ok || !path.IsInstance() && !path.IsResourceInstance() || path.IsResourceInstance() && op.link.version.Minor == 0 {
		return nil, fmt.Errorf("%w: servers do not delete %s", ErrMethodNotAllowed, path)
	}
	if path.IsResourceInstance() {
		if err := c.allows(path, Writable); err != nil {
			return nil, err
		}
		// The last instance of a resource that must have one stays.
		m, _ := c.model(path.Object())
		if m != nil {
			if r, _ := m.resource(path.Resource()); r.Mandatory {
				left, err := o.Read(ctx, path.parent())
				if err == nil && len(left) == 1 && left[0].Path == path {
					return nil, fmt.Errorf("%w: %s is mandatory and %s its last instance", ErrMethodNotAllowed, path.parent(), path)
				}
			}
		}
	}
	if err := o.Delete(ctx, path); err != nil {
		return nil, err
	}
	c.forgetAttributes(path)
	resp := op.written(path)
	resp.Code = coap.Deleted
	return resp, nil
}

// forgetAttributes removes the attributes at and below a path that a server has deleted.
func (c *Client) forgetAttributes(path Path) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.attributes {
		if path.Contains(p) {
			delete(c.attributes, p)
		}
	}
}
