package lwm2m

import (
	"fmt"
	"slices"
)

// exists checks that the object and the instance of path exist, and by the model, if there is one,
// that the object has the resource.
func (c *Client) exists(path Path) error {
	o := c.objects[path.Object()]
	if o == nil {
		return fmt.Errorf("%w: no object %d", ErrNotFound, path.Object())
	}
	if path.Len() >= 2 && !slices.Contains(o.Instances(), path.Instance()) {
		return fmt.Errorf("%w: no instance %s", ErrNotFound, path.Prefix(2))
	}
	return c.has(path)
}

// has checks that the model of an object has the resource of path. Without a model it has every
// resource.
func (c *Client) has(path Path) error {
	if path.Len() >= 3 {
		model, ok := c.model(path.Object())
		if !ok {
			return nil
		}
		r, ok := model.resource(path.Resource())
		if !ok {
			return fmt.Errorf("%w: no resource %s", ErrNotFound, path.Prefix(3))
		}
		if path.IsResourceInstance() && !r.Multiple {
			return fmt.Errorf("%w: %s has no instances", ErrNotFound, path.Prefix(3))
		}
	}
	return nil
}

// model returns the model of an object that the client offers, as it counts for the object's
// version.
func (c *Client) model(id uint16) (*ObjectModel, bool) {
	return c.models.Object(id, Version{})
}

// versionOf makes the client the lister of its models.
func (c *Client) versionOf(id uint16) (v Version, named bool) {
	o := c.objects[id]
	if o == nil {
		return Version{}, false
	}
	v = objectVersion(o)
	if v.isZero() {
		v.Major = 1
	}
	return v, true
}

// known reports whether the client has a model of an object that it offers.
func (c *Client) known(id uint16) bool {
	_, ok := c.model(id)
	return ok
}

// allows checks by the model that a resource has the operations. Without a model the object
// decides.
func (c *Client) allows(path Path, want Operations) error {
	m, ok := c.model(path.Object())
	if !ok {
		return nil
	}
	r, ok := m.resource(path.Resource())
	if !ok {
		return fmt.Errorf("%w: no resource %s", ErrNotFound, path.Prefix(3))
	}
	if !r.Operations.has(want) {
		return fmt.Errorf("%w: %s is not for this", ErrMethodNotAllowed, path.Prefix(3))
	}
	return nil
}

// multiple reports whether the model says that the resource of path has instances.
func (c *Client) multiple(path Path) bool {
	m, ok := c.model(path.Object())
	if !ok {
		return false
	}
	r, _ := m.resource(path.Resource())
	return r.Multiple
}

// writable checks that the paths of entries exist and that servers may write them. It drops the
// entry of an instance without resources, which means nothing in a write.
func (c *Client) writable(entries []Entry) ([]Entry, error) {
	for _, e := range entries {
		if err := c.exists(e.Path); err != nil {
			return nil, err
		}
		if err := c.takes(e); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(entries, func(e Entry) bool { return e.Path.Len() < 3 }), nil
}

// takes checks by the model that a server may write an entry, which lies in an instance that exists
// or is about to.
func (c *Client) takes(e Entry) error {
	if e.Path.Len() < 3 {
		return nil // an instance without resources
	}
	if err := c.allows(e.Path, Writable); err != nil {
		return err
	}
	switch multiple := c.multiple(e.Path); {
	case e.Value.isNull():
		return fmt.Errorf("%w: %s cannot be removed like this", ErrMethodNotAllowed, e.Path)
	case multiple && e.Path.IsResource() && !e.Value.isZero():
		return fmt.Errorf("%w: %s has instances, not one value", ErrBadRequest, e.Path)
	case e.Value.isZero() && !multiple && c.known(e.Path.Object()):
		return fmt.Errorf("%w: no value for %s", ErrBadRequest, e.Path)
	}
	return nil
}

// complete refuses with 4.00 entries that are to be all values at and below path, an instance or a
// resource, and lack a mandatory one. It looks at the resources that servers write and of selects.
func (c *Client) complete(path Path, entries []Entry, of func(resource uint16) bool) error {
	model, known := c.model(path.Object())
	if !known {
		return nil
	}
	for _, r := range model.Resources {
		resource := path.Prefix(2).child(r.ID)
		if r.Mandatory && r.Operations.has(Writable) && of(r.ID) && path.Contains(resource) &&
			!slices.ContainsFunc(entries, func(e Entry) bool { return resource.Contains(e.Path) && !e.Value.isZero() }) {
			return fmt.Errorf("%w: no value for %s, which is mandatory", ErrBadRequest, resource)
		}
	}
	return nil
}
