package lwm2m

import (
	"context"
	"fmt"
	"io"
)

// call makes a request and waits for its answer, or until ctx ends.
func (s *Server) call(ctx context.Context, r Request, opts ...RequestOption) Answer {
	if err := ctx.Err(); err != nil {
		return Answer{Err: err}
	}
	done := make(chan Answer, 1)
	c := &Call{server: s, request: r.with(opts), sink: sink{done: func(a Answer) { done <- a }, direct: true}}
	s.begin(c)
	return c.wait(ctx, done)
}

// wait returns the answer that done receives, also when ctx has ended the call.
func (c *Call) wait(ctx context.Context, done <-chan Answer) Answer {
	select {
	case a := <-done:
		return a
	case <-ctx.Done():
		c.Cancel(context.Cause(ctx))
		return <-done
	}
}

// Read returns the values at and below path: an object, an instance, a resource or a resource instance. An answer without
// content says that there are none, which is no error.
func (s *Server) Read(ctx context.Context, endpoint string, path Path, opts ...RequestOption) ([]Entry, error) {
	a := s.call(ctx, Request{Endpoint: endpoint, Operation: OpRead, Path: path}, opts...)
	return a.Entries, a.Err
}

// ReadComposite returns the values at and below several paths at once (LwM2M 1.1). What is absent is left out.
func (s *Server) ReadComposite(ctx context.Context, endpoint string, paths []Path, opts ...RequestOption) ([]Entry, error) {
	a := s.call(ctx, Request{Endpoint: endpoint, Operation: OpReadComposite, Paths: paths}, opts...)
	return a.Entries, a.Err
}

// Discover returns what the device has at and below path, with its attributes.
func (s *Server) Discover(ctx context.Context, endpoint string, path Path, opts ...RequestOption) ([]Discovered, error) {
	a := s.call(ctx, Request{Endpoint: endpoint, Operation: OpDiscover, Path: path}, opts...)
	return a.Discovered, a.Err
}

// Write replaces what is at path, an instance, a resource or a resource instance, by entries, which lie at or below it.
func (s *Server) Write(ctx context.Context, endpoint string, path Path, entries []Entry, opts ...RequestOption) error {
	return s.call(ctx, Request{Endpoint: endpoint, Operation: OpWrite, Path: path, Entries: entries}, opts...).Err
}

// WriteValue sets the value of the resource or resource instance at path.
func (s *Server) WriteValue(ctx context.Context, endpoint string, path Path, v Value, opts ...RequestOption) error {
	if path.Len() < 3 {
		return fmt.Errorf("%w: %s is not a resource", ErrPath, path)
	}
	return s.Write(ctx, endpoint, path, []Entry{{Path: path, Value: v}}, opts...)
}

// WritePartial sets entries below the instance or multiple resource at path and keeps what is not among them.
func (s *Server) WritePartial(ctx context.Context, endpoint string, path Path, entries []Entry, opts ...RequestOption) error {
	return s.call(ctx, Request{Endpoint: endpoint, Operation: OpWritePartial, Path: path, Entries: entries}, opts...).Err
}

// WriteComposite sets entries anywhere on the device, all or none (LwM2M 1.1).
func (s *Server) WriteComposite(ctx context.Context, endpoint string, entries []Entry, opts ...RequestOption) error {
	return s.call(ctx, Request{Endpoint: endpoint, Operation: OpWriteComposite, Entries: entries}, opts...).Err
}

// WriteAttributes sets notification attributes at path, and removes those that are marked as cleared.
func (s *Server) WriteAttributes(ctx context.Context, endpoint string, path Path, attributes Attributes, opts ...RequestOption) error {
	return s.call(ctx, Request{Endpoint: endpoint, Operation: OpWriteAttributes, Path: path, Attributes: attributes}, opts...).Err
}

// Execute runs the resource at path; args is "" or an argument list such as "0='x',5".
func (s *Server) Execute(ctx context.Context, endpoint string, path Path, args string, opts ...RequestOption) error {
	return s.call(ctx, Request{Endpoint: endpoint, Operation: OpExecute, Path: path, Arguments: args}, opts...).Err
}

// Create makes an instance of the object at path with the values of entries, all of one instance, which is the new one. The
// path returned is that of the instance as the device says, or as entries do.
func (s *Server) Create(ctx context.Context, endpoint string, path Path, entries []Entry, opts ...RequestOption) (Path, error) {
	a := s.call(ctx, Request{Endpoint: endpoint, Operation: OpCreate, Path: path, Entries: entries}, opts...)
	return a.Path, a.Err
}

// Delete removes the instance, or since LwM2M 1.2 the resource instance, at path.
func (s *Server) Delete(ctx context.Context, endpoint string, path Path, opts ...RequestOption) error {
	return s.call(ctx, Request{Endpoint: endpoint, Operation: OpDelete, Path: path}, opts...).Err
}

// WriteStreamOptions are the options of [Server.WriteStream], as the fields of [Request] with the same names.
type WriteStreamOptions struct {
	// BlockSize is the largest block to send: 16, 32, 64, 128, 256, 512 or 1024 bytes. Default: 1024. The device may lower it.
	BlockSize int
	// Exclusive holds other requests to the device back until the transfer has ended, for clients that take nothing
	// between two blocks. Default: others may pass between.
	Exclusive bool
	// NoWait makes the transfer fail with ErrAsleep instead of waiting for a device that sleeps. Default: it waits.
	NoWait bool
	// Progress is called with the bytes that the device has acknowledged, of total, after each block. It must not block.
	Progress func(done, total int64)
}

// WriteStream writes size bytes of body to the opaque resource at path, block by block, as they are (content format 42).
// It is not bounded in time but for ctx; each block is. A transfer to one device excludes another to the same device.
func (s *Server) WriteStream(ctx context.Context, endpoint string, path Path, body io.ReaderAt, size int64,
	opts WriteStreamOptions) error {
	return s.call(ctx, Request{
		Endpoint: endpoint, Operation: OpWriteStream, Path: path, Body: body, Size: size, BlockSize: opts.BlockSize,
		Exclusive: opts.Exclusive, NoWait: opts.NoWait, Progress: opts.Progress,
	}).Err
}

// Observe asks the device to tell changes at and below path, and calls fn with the present values and then with each
// notification, one at a time, in order. fn may block, and then may miss values that were overtaken by newer ones.
// The observation ends with the registration: see [Observation.Done].
func (s *Server) Observe(ctx context.Context, endpoint string, path Path, fn func([]Entry), opts ...RequestOption) (*Observation, error) {
	a := s.call(ctx, Request{Endpoint: endpoint, Operation: OpObserve, Path: path, Values: fn}, opts...)
	return a.Observation, a.Err
}

// ObserveComposite is Observe for several paths at once (LwM2M 1.1): a change at one is told with the values at all.
func (s *Server) ObserveComposite(ctx context.Context, endpoint string, paths []Path, fn func([]Entry), opts ...RequestOption) (*Observation, error) {
	a := s.call(ctx, Request{Endpoint: endpoint, Operation: OpObserveComposite, Paths: paths, Values: fn}, opts...)
	return a.Observation, a.Err
}
