package lwm2m

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// ValueObjectConfig is the configuration of a [ValueObject]. Only ID must be set.
type ValueObjectConfig struct {
	// ID is the object's identifier.
	ID uint16
	// Version is the version of the object's definition. Default: 1.0.
	Version string
	// Values are the first values, as [ValueObject.Set] takes them.
	Values []Entry

	// Writable are the resources that servers may write, each with a function that checks a value.
	// Its error refuses the write with 4.00; nil takes every value of the resource's type. A
	// multiple resource takes up to 256 instances. A write that replaces the instance removes those
	// that it does not name; if the model says that one of them is mandatory, the client answers
	// 4.00. Default: servers write nothing.
	Writable map[uint16]func(Value) error
	// OnWrite is called once for each request that writes, after its values are checked and before
	// they are set. values is the new content of each written resource, including the instances of
	// a multiple resource that stay; a resource that is removed has one entry with the zero Value.
	// OnWrite may store the values or act on them, and may block. Its error is the answer, and then
	// nothing is set. Default: none.
	OnWrite func(ctx context.Context, values []Entry) error
	// OnExecute are the resources that servers may execute, by identifier. args is the argument
	// list as it was sent. Pass work that must wait until the server has its answer to
	// [AfterResponse]; the error is the answer. Default: servers execute nothing.
	OnExecute map[uint16]func(ctx context.Context, instance uint16, args string) error
	// OnCreate is called when a server creates an instance, before it exists, with the values in
	// the request: all belong to Writable and are checked. It may set other values with
	// [ValueObject.Set]. Its error is the answer, and then there is no instance. Default: servers
	// create no instances (4.05).
	OnCreate func(ctx context.Context, instance uint16, values []Entry) error
	// OnDelete is called when a server deletes an instance, before it is removed. Its error is the
	// answer, and then the instance stays. Default: servers delete no instances (4.05).
	OnDelete func(ctx context.Context, instance uint16) error
	// MaxInstances is the number of instances at which servers can create no more. Default: 100.
	MaxInstances int
}

// maxResourceInstances bounds the instances of a multiple resource that a server may write.
const maxResourceInstances = 256

// A ValueObject is an [Object] that holds values: the program sets them, and servers read and
// observe them, and write, create and delete what the configuration allows. Each [Client] that runs
// with the object reports changes to observers, and updates its registration when instances come or
// go.
//
// Its methods may be called from several goroutines, also from the functions of its configuration.
type ValueObject struct{ valueObject }

// valueObject has the methods that make a ValueObject an Object.
type valueObject struct {
	config ValueObjectConfig

	writing sync.Mutex // held while a server changes something, also while functions of config run

	mu        sync.Mutex
	instances []uint16 // ascending
	values    []Entry  // ascending by path
	clients   map[*Client]int
}

var (
	_ InstanceCreator = (*ValueObject)(nil)
	_ ResourceLister  = (*ValueObject)(nil)
)

// NewValueObject returns an object with the values of config. It panics if [ValueObject.Set] does.
func NewValueObject(config ValueObjectConfig) *ValueObject {
	config.MaxInstances = cmp.Or(config.MaxInstances, 100)
	o := &ValueObject{valueObject{config: config, clients: make(map[*Client]int)}}
	for _, e := range config.Values {
		o.Set(e.Path, e.Value)
	}
	return o
}

// Set sets the value at path, a resource or a resource instance of the object, and makes its
// instance if there is none. The zero Value with the path of an instance makes an instance without
// resources. Observers get the value if it is different.
//
// A resource has one value or instances, whichever was set last. The value should be of the type
// that the model gives the resource, or of one that converts to it without loss. Set panics on
// other paths.
func (o *ValueObject) Set(path Path, v Value) {
	if o.set(path, v) {
		o.notify(path)
	}
}

// Remove removes the values at and below path; with the path of an instance it removes the
// instance.
func (o *ValueObject) Remove(path Path) {
	if o.remove(path) {
		o.notify(path)
	}
}

// Value returns the value at path, or the zero Value if there is none.
func (o *ValueObject) Value(path Path) Value { return o.valueAt(path) }

// set reports whether it changed anything.
func (o *valueObject) set(path Path, v Value) bool {
	if path.Len() < 2 || path.Object() != o.config.ID || (path.Len() == 2) != v.isZero() {
		panic(fmt.Sprintf("lwm2m: object %d cannot have a value %q at %s", o.config.ID, v, path))
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	at, exists := slices.BinarySearch(o.instances, path.Instance())
	if !exists {
		o.instances = slices.Insert(o.instances, at, path.Instance())
	}
	if v.isZero() {
		return !exists
	}
	i, found := o.search(path)
	if found && o.values[i].Value == v {
		return false
	}
	if !found {
		o.values = slices.DeleteFunc(o.values, func(e Entry) bool { return path.Contains(e.Path) || e.Path.Contains(path) })
		i, _ = o.search(path)
		o.values = slices.Insert(o.values, i, Entry{Path: path})
	}
	o.values[i].Value = v
	return true
}

// remove reports whether it removed anything.
func (o *valueObject) remove(path Path) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := len(o.values) + len(o.instances)
	o.values = slices.DeleteFunc(o.values, func(e Entry) bool { return path.Contains(e.Path) })
	o.instances = slices.DeleteFunc(o.instances, func(id uint16) bool { return path.Contains(NewPath(o.config.ID, id)) })
	return len(o.values)+len(o.instances) < before
}

func (o *valueObject) search(path Path) (int, bool) {
	return slices.BinarySearchFunc(o.values, path, func(e Entry, p Path) int { return e.Path.Compare(p) })
}

// attach makes the object report its changes through c until detach is called.
func (o *valueObject) attach(c *Client) (detach func()) {
	add := func(n int) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.clients[c] += n; o.clients[c] == 0 {
			delete(o.clients, c)
		}
	}
	add(1)
	return func() { add(-1) }
}

func (o *valueObject) notify(path Path) {
	o.mu.Lock()
	clients := slices.Collect(maps.Keys(o.clients))
	o.mu.Unlock()
	for _, c := range clients {
		c.Notify(path)
	}
}

// ID implements [Object].
func (o *valueObject) ID() uint16 { return o.config.ID }

// Version implements [Object].
func (o *valueObject) Version() string { return o.config.Version }

// Instances implements [Object].
func (o *valueObject) Instances() []uint16 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.instances)
}

// Resources implements [ResourceLister]: those that have a value, and those that servers may write
// or execute.
func (o *valueObject) Resources(instance uint16) []uint16 {
	ids := slices.AppendSeq(slices.Collect(maps.Keys(o.config.Writable)), maps.Keys(o.config.OnExecute))
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.values {
		if e.Path.Instance() == instance {
			ids = append(ids, e.Path.Resource())
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Read implements [Object].
func (o *valueObject) Read(_ context.Context, path Path) ([]Entry, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return selectEntries(path, o.values)
}

// Execute implements [Object].
func (o *valueObject) Execute(ctx context.Context, path Path, args string) error {
	execute := o.config.OnExecute[path.Resource()]
	if execute == nil {
		return fmt.Errorf("%w: %s", ErrNotFound, path)
	}
	return execute(ctx, path.Instance(), args)
}
