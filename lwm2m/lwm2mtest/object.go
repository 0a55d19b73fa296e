package lwm2mtest

import (
	"context"
	"slices"
	"sync"

	"github.com/otago-iot/otago/lwm2m"
)

// Object is a [lwm2m.Object] that holds values and remembers what was done to it. The hooks may be set before it is used; they
// may block, and their errors are the answers.
type Object struct {
	// ObjectVersion is the version of the object's definition. Default: 1.0.
	ObjectVersion string
	// OnRead, OnWrite and OnExecute are called before the object does what it is asked to. Default: nothing.
	OnRead    func(ctx context.Context, path lwm2m.Path) error
	OnWrite   func(ctx context.Context, path lwm2m.Path, entries []lwm2m.Entry) error
	OnExecute func(ctx context.Context, path lwm2m.Path, args string) error

	id uint16

	mu     sync.Mutex
	values []lwm2m.Entry // sorted by path
	calls  []Call
}

var _ lwm2m.Object = (*Object)(nil)

// Call is a Write or an Execute that an [Object] has seen.
type Call struct {
	Path    lwm2m.Path
	Entries []lwm2m.Entry // of a Write
	Args    string        // of an Execute
	Execute bool
}

// NewObject returns an object with values.
func NewObject(id uint16, values ...lwm2m.Entry) *Object {
	o := &Object{id: id}
	o.Set(values...)
	return o
}

// Set sets values, as the device itself does. The client is to be told by [lwm2m.Client.Notify].
func (o *Object) Set(values ...lwm2m.Entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, v := range values {
		i, found := o.search(v.Path)
		if found {
			o.values[i] = v
		} else {
			o.values = slices.Insert(o.values, i, v)
		}
	}
}

// Remove removes the values at and below path.
func (o *Object) Remove(path lwm2m.Path) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.values = slices.DeleteFunc(o.values, func(e lwm2m.Entry) bool { return path.Contains(e.Path) })
}

// Value returns the value at path; the zero Value if there is none.
func (o *Object) Value(path lwm2m.Path) lwm2m.Value {
	o.mu.Lock()
	defer o.mu.Unlock()
	if i, found := o.search(path); found {
		return o.values[i].Value
	}
	return lwm2m.Value{}
}

// Calls returns the writes and executes since the last call, in their order.
func (o *Object) Calls() []Call {
	o.mu.Lock()
	defer o.mu.Unlock()
	calls := o.calls
	o.calls = nil
	return calls
}

func (o *Object) search(path lwm2m.Path) (int, bool) {
	return slices.BinarySearchFunc(o.values, path, func(e lwm2m.Entry, p lwm2m.Path) int { return e.Path.Compare(p) })
}

// ID implements [lwm2m.Object].
func (o *Object) ID() uint16 { return o.id }

// Version implements [lwm2m.Object].
func (o *Object) Version() string { return o.ObjectVersion }

// Instances implements [lwm2m.Object]: those that have values.
func (o *Object) Instances() []uint16 {
	o.mu.Lock()
	defer o.mu.Unlock()
	var ids []uint16
	for _, v := range o.values {
		if n := len(ids); n == 0 || ids[n-1] != v.Path.Instance() {
			ids = append(ids, v.Path.Instance())
		}
	}
	return ids
}

// Read implements [lwm2m.Object].
func (o *Object) Read(ctx context.Context, path lwm2m.Path) ([]lwm2m.Entry, error) {
	if o.OnRead != nil {
		if err := o.OnRead(ctx, path); err != nil {
			return nil, err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []lwm2m.Entry
	for _, e := range o.values {
		if path.Contains(e.Path) {
			found = append(found, e)
		}
	}
	if len(found) == 0 && path.Len() >= 3 {
		return nil, lwm2m.ErrNotFound
	}
	return found, nil
}

// Write implements [lwm2m.Object].
func (o *Object) Write(ctx context.Context, path lwm2m.Path, entries []lwm2m.Entry, replace bool) error {
	if o.OnWrite != nil {
		if err := o.OnWrite(ctx, path, entries); err != nil {
			return err
		}
	}
	if replace {
		o.Remove(path)
	}
	o.Set(entries...)
	o.called(Call{Path: path, Entries: entries})
	return nil
}

// Execute implements [lwm2m.Object].
func (o *Object) Execute(ctx context.Context, path lwm2m.Path, args string) error {
	if o.OnExecute != nil {
		if err := o.OnExecute(ctx, path, args); err != nil {
			return err
		}
	}
	o.called(Call{Path: path, Args: args, Execute: true})
	return nil
}

func (o *Object) called(c Call) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, c)
}
