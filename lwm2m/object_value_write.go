package lwm2m

import (
	"context"
	"fmt"
	"slices"
)

// Write implements [Object].
func (o *valueObject) Write(ctx context.Context, path Path, entries []Entry, replace bool) error {
	o.writing.Lock()
	defer o.writing.Unlock()
	if replace && path.IsResourceInstance() && o.valueAt(path).isZero() {
		return fmt.Errorf("%w: %s", ErrNotFound, path)
	}
	if replace && path.IsResource() {
		entries = append([]Entry{{Path: path}}, entries...) // the resource is written even if it ends up empty
	}
	keep := func(p Path) bool { return !replace || !path.Contains(p) }
	next, err := o.merge(path.Prefix(2), entries, keep)
	if err != nil {
		return err
	}
	if replace && path.IsInstance() {
		next = o.addRemoved(path, next)
	}
	return o.commit(ctx, path, next)
}

// removes reports whether a Write that replaces an instance removes a resource that it does not
// name: the client then refuses to let it remove a mandatory one.
func (o *valueObject) removes(resource uint16) bool {
	_, writable := o.config.Writable[resource]
	return writable
}

// creates reports whether servers may create instances: the client asks before it calls Create.
func (o *valueObject) creates() bool { return o.config.OnCreate != nil }

// Create implements [InstanceCreator].
func (o *valueObject) Create(ctx context.Context, instance uint16, entries []Entry) error {
	o.writing.Lock()
	defer o.writing.Unlock()
	ids := o.Instances()
	switch {
	case slices.Contains(ids, instance):
		return fmt.Errorf("%w: instance %d exists", ErrBadRequest, instance)
	case len(ids) >= o.config.MaxInstances:
		return fmt.Errorf("%w: object %d has %d instances", ErrBadRequest, o.config.ID, len(ids))
	}
	path := NewPath(o.config.ID, instance)
	values, err := o.merge(path, entries, func(Path) bool { return false })
	if err != nil {
		return err
	}
	if err := o.config.OnCreate(ctx, instance, slices.Clone(values)); err != nil {
		if o.remove(path) { // OnCreate has set values
			o.notify(path)
		}
		return err
	}
	o.set(path, Value{})
	for _, e := range values {
		if !e.Value.isZero() {
			o.set(e.Path, e.Value)
		}
	}
	o.notifyOthers(ctx, path)
	return nil
}

// Delete implements [InstanceCreator].
func (o *valueObject) Delete(ctx context.Context, path Path) error {
	o.writing.Lock()
	defer o.writing.Unlock()
	if path.IsResourceInstance() {
		if o.valueAt(path).isZero() {
			return fmt.Errorf("%w: %s", ErrNotFound, path)
		}
		resource := path.parent()
		next, err := o.merge(path.Prefix(2), []Entry{{Path: resource}}, func(p Path) bool { return p != path })
		if err != nil {
			return err
		}
		return o.commit(ctx, resource, next)
	}
	if o.config.OnDelete == nil {
		return fmt.Errorf("%w: servers delete no instances of object %d", ErrMethodNotAllowed, o.config.ID)
	}
	if err := o.config.OnDelete(ctx, path.Instance()); err != nil {
		return err
	}
	o.remove(path)
	o.notifyOthers(ctx, path)
	return nil
}

// notifyOthers reports a change by a server to the servers of other clients. The client that served
// the request informs its own server.
func (o *valueObject) notifyOthers(ctx context.Context, path Path) {
	o.mu.Lock()
	shared := len(o.clients) > 1
	o.mu.Unlock()
	if shared {
		AfterResponse(ctx, func() { o.notify(path) })
	}
}

func (o *valueObject) valueAt(path Path) Value {
	o.mu.Lock()
	defer o.mu.Unlock()
	if i, found := o.search(path); found {
		return o.values[i].Value
	}
	return Value{}
}

// merge returns the new content of the resources of entries, by path: the values of entries, and
// the present instances of multiple resources that keep selects. A resource that will be empty has
// one entry with the zero Value.
func (o *valueObject) merge(instance Path, entries []Entry, keep func(Path) bool) ([]Entry, error) {
	byResource := make(map[Path]map[Path]Value)
	for _, e := range entries {
		check, ok := o.config.Writable[e.Path.Resource()]
		if e.Path == instance { // an instance without resources
			continue
		}
		if !ok {
			return nil, fmt.Errorf("%w: servers do not write %s", ErrMethodNotAllowed, e.Path)
		}
		if check != nil && !e.Value.isZero() {
			if err := check(e.Value); err != nil {
				return nil, fmt.Errorf("%w: %s: %w", ErrBadRequest, e.Path, err)
			}
		}
		resource := e.Path.Prefix(3)
		if byResource[resource] == nil {
			byResource[resource] = o.kept(resource, keep)
		}
		if !e.Value.isZero() {
			byResource[resource][e.Path] = e.Value
		}
	}
	var next []Entry
	for resource, values := range byResource {
		if len(values) > maxResourceInstances {
			return nil, fmt.Errorf("%w: %s would have more than %d instances", ErrBadRequest, resource, maxResourceInstances)
		}
		if len(values) == 0 {
			next = append(next, Entry{Path: resource})
		}
		for path, v := range values {
			next = append(next, Entry{Path: path, Value: v})
		}
	}
	slices.SortFunc(next, func(a, b Entry) int { return a.Path.Compare(b.Path) })
	return next, nil
}

// kept returns the instances of a resource that a write keeps.
func (o *valueObject) kept(resource Path, keep func(Path) bool) map[Path]Value {
	o.mu.Lock()
	defer o.mu.Unlock()
	values := make(map[Path]Value)
	for _, e := range o.values {
		if e.Path.IsResourceInstance() && resource.Contains(e.Path) && keep(e.Path) {
			values[e.Path] = e.Value
		}
	}
	return values
}

// addRemoved adds the writable resources that a write removes because it does not name them.
func (o *valueObject) addRemoved(instance Path, next []Entry) []Entry {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.values {
		_, writable := o.config.Writable[e.Path.Resource()]
		resource := e.Path.Prefix(3)
		named := slices.ContainsFunc(next, func(n Entry) bool { return resource.Contains(n.Path) })
		if writable && instance.Contains(resource) && !named {
			next = append(next, Entry{Path: resource})
		}
	}
	return next
}

// commit sets the content of the resources of next, if OnWrite agrees. path is the path of the
// request.
func (o *valueObject) commit(ctx context.Context, path Path, next []Entry) error {
	if o.config.OnWrite != nil && len(next) > 0 {
		if err := o.config.OnWrite(ctx, slices.Clone(next)); err != nil {
			return err
		}
	}
	for i, e := range next {
		resource := e.Path.Prefix(3)
		if i == 0 || next[i-1].Path.Prefix(3) != resource {
			o.removeOthers(resource, next)
		}
		if !e.Value.isZero() {
			o.set(e.Path, e.Value)
		}
	}
	o.notifyOthers(ctx, path)
	return nil
}

// removeOthers removes the values of a resource that are not among next.
func (o *valueObject) removeOthers(resource Path, next []Entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.values = slices.DeleteFunc(o.values, func(e Entry) bool {
		return resource.Contains(e.Path) && !slices.ContainsFunc(next, func(n Entry) bool { return n.Path == e.Path && !n.Value.isZero() })
	})
}
