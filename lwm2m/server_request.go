package lwm2m

import (
	"context"
	"fmt"
	"io"
)

// Do makes a request and waits for its answer, or until ctx ends. The error is the Err of the
// answer. Read, Write and the other methods that take a context call Do; use Do itself to set other
// fields of [Request].
func (s *Server) Do(ctx context.Context, r Request) (Answer, error) {
	if err := ctx.Err(); err != nil {
		return Answer{Err: err}, err
	}
	done := make(chan Answer, 1)
	c := &Call{server: s, request: r, sink: sink{done: func(a Answer) { done <- a }, direct: true}}
	s.begin(c)
	a := c.wait(ctx, done)
	return a, a.Err
}

// wait returns the answer from done. If ctx ends before, it cancels the call.
func (c *Call) wait(ctx context.Context, done <-chan Answer) Answer {
	select {
	case a := <-done:
		return a
	case <-ctx.Done():
		c.Cancel(context.Cause(ctx))
		return <-done
	}
}

// Read returns the values at and below path: an object, an instance, a resource or a resource
// instance. An answer without content says that there are none, which is no error.
func (s *Server) Read(ctx context.Context, endpoint string, path Path) ([]Entry, error) {
	a, err := s.Do(ctx, Request{Endpoint: endpoint, Operation: OpRead, Path: path})
	return a.Entries, err
}

// ReadValue returns the value of the resource or resource instance at path. The error is [ErrPath]
// for a multiple resource, whose values Read returns, and [ErrNotFound] if the answer has no value.
func (s *Server) ReadValue(ctx context.Context, endpoint string, path Path) (Value, error) {
	if path.Len() < 3 {
		return Value{}, fmt.Errorf("%w: %s is not a resource", ErrPath, path)
	}
	entries, err := s.Read(ctx, endpoint, path)
	switch {
	case err != nil:
		return Value{}, err
	case len(entries) == 1 && entries[0].Path == path && entries[0].Value.Type() != TypeNone:
		return entries[0].Value, nil
	case len(entries) == 0:
		return Value{}, fmt.Errorf("%w: %s of %s has no value", ErrNotFound, path, endpoint)
	default:
		return Value{}, fmt.Errorf("%w: %s of %s is a multiple resource", ErrPath, path, endpoint)
	}
}

// ReadComposite returns the values at and below several paths at once (LwM2M 1.1). The result
// leaves out what is absent.
func (s *Server) ReadComposite(ctx context.Context, endpoint string, paths []Path) ([]Entry, error) {
	a, err := s.Do(ctx, Request{Endpoint: endpoint, Operation: OpReadComposite, Paths: paths})
	return a.Entries, err
}

// Discover returns what the device has at and below path, with its attributes.
func (s *Server) Discover(ctx context.Context, endpoint string, path Path) ([]Discovered, error) {
	a, err := s.Do(ctx, Request{Endpoint: endpoint, Operation: OpDiscover, Path: path})
	return a.Discovered, err
}

// Write replaces what is at path, an instance, a resource or a resource instance, by entries, which
// lie at or below it.
func (s *Server) Write(ctx context.Context, endpoint string, path Path, entries []Entry) error {
	_, err := s.Do(ctx, Request{Endpoint: endpoint, Operation: OpWrite, Path: path, Entries: entries})
	return err
}

// WriteValue sets the value of the resource or resource instance at path.
func (s *Server) WriteValue(ctx context.Context, endpoint string, path Path, v Value) error {
	if path.Len() < 3 {
		return fmt.Errorf("%w: %s is not a resource", ErrPath, path)
	}
	return s.Write(ctx, endpoint, path, []Entry{{Path: path, Value: v}})
}

// WritePartial sets entries below the instance or multiple resource at path and keeps what is not
// among them.
func (s *Server) WritePartial(ctx context.Context, endpoint string, path Path, entries []Entry) error {
	_, err := s.Do(ctx, Request{Endpoint: endpoint, Operation: OpWritePartial, Path: path, Entries: entries})
	return err
}

// WriteComposite sets entries anywhere on the device, all or none (LwM2M 1.1).
func (s *Server) WriteComposite(ctx context.Context, endpoint string, entries []Entry) error {
	_, err := s.Do(ctx, Request{Endpoint: endpoint, Operation: OpWriteComposite, Entries: entries})
	return err
}

// WriteAttributes sets notification attributes at path, and removes those that are marked as
// cleared.
func (s *Server) WriteAttributes(ctx context.Context, endpoint string, path Path, attributes Attributes) error {
	_, err := s.Do(ctx, Request{Endpoint: endpoint, Operation: OpWriteAttributes, Path: path, Attributes: attributes})
	return err
}

// Execute runs the resource at path; args is "" or an argument list such as "0='x',5".
func (s *Server) Execute(ctx context.Context, endpoint string, path Path, args string) error {
	_, err := s.Do(ctx, Request{Endpoint: endpoint, Operation: OpExecute, Path: path, Arguments: args})
	return err
}

// Create makes an instance of the object at path with the values of entries, which all lie in the
// new instance. It returns the path of the instance, from the device's answer, else from entries.
func (s *Server) Create(ctx context.Context, endpoint string, path Path, entries []Entry) (Path, error) {
	a, err := s.Do(ctx, Request{Endpoint: endpoint, Operation: OpCreate, Path: path, Entries: entries})
	return a.Path, err
}

// Delete removes the instance, or since LwM2M 1.2 the resource instance, at path.
func (s *Server) Delete(ctx context.Context, endpoint string, path Path) error {
	_, err := s.Do(ctx, Request{Endpoint: endpoint, Operation: OpDelete, Path: path})
	return err
}

// WriteStream writes size bytes of body to the opaque resource at path, block by block, as they are
// (content format 42). Each block has a time limit, the whole only that of ctx. A device gets one
// stream at a time; other requests may go between its blocks. [Server.Do] with [OpWriteStream] sets
// the size of blocks, excludes other requests and reports progress.
func (s *Server) WriteStream(ctx context.Context, endpoint string, path Path, body io.ReaderAt, size int64) error {
	_, err := s.Do(ctx, Request{Endpoint: endpoint, Operation: OpWriteStream, Path: path, Body: body, Size: size})
	return err
}

// Observe asks the device for notifications of changes at and below path. It calls fn with the
// present values and then with those of each notification, one at a time, in order. fn may block;
// then up to 16 notifications wait, and newer ones replace the oldest. The observation ends with
// the registration: see [Observation.Done].
func (s *Server) Observe(ctx context.Context, endpoint string, path Path, fn func([]Entry)) (*Observation, error) {
	a, err := s.Do(ctx, Request{Endpoint: endpoint, Operation: OpObserve, Path: path, Values: fn})
	return a.Observation, err
}

// ObserveComposite is Observe for several paths at once (LwM2M 1.1): each notification has the
// values at all paths.
func (s *Server) ObserveComposite(ctx context.Context, endpoint string, paths []Path, fn func([]Entry)) (*Observation, error) {
	a, err := s.Do(ctx, Request{Endpoint: endpoint, Operation: OpObserveComposite, Paths: paths, Values: fn})
	return a.Observation, err
}
