package lwm2m

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/otago-iot/otago/internal/coap"
)

// Read returns the values at and below path: an object, an instance, a resource or a resource instance.
func (s *Server) Read(ctx context.Context, endpoint string, path Path, opts ...RequestOption) ([]Entry, error) {
	if path.IsRoot() {
		return nil, fmt.Errorf("%w: the root cannot be read", ErrPath)
	}
	o := newRequestOptions(opts)
	var codec Codec
	resp, err := s.do(ctx, &request{endpoint: endpoint, path: path, safe: true, opts: o,
		build: func(ss *session) (*coap.Request, error) {
			codec = s.codec(ss)
			return &coap.Request{Code: coap.GET, Path: ss.segments(path), Accept: o.accept()}, nil
		}})
	if err != nil {
		return nil, err
	}
	return codec.answer(resp, path)
}

// codec returns what makes and reads payloads of the device.
func (s *Server) codec(ss *session) Codec { return Codec{Models: s.config.Models, Root: ss.root} }

// accept returns the wish for the format of an answer: without one the device chooses what it can.
func (o requestOptions) accept() coap.Format {
	if o.hasFormat {
		return coap.FormatOf(uint16(o.format))
	}
	return coap.Format{}
}

// answer reads the payload of an answer in whatever format it is.
func (c Codec) answer(resp *coap.Response, base Path) ([]Entry, error) {
	f, ok := resp.ContentFormat.Get()
	if !ok {
		if len(resp.Payload) == 0 {
			return nil, nil
		}
		f = uint16(FormatText) // what old clients mean when they say nothing
	}
	if len(resp.Payload) == 0 && c.mayBeEmpty(ContentFormat(f), base) {
		return nil, nil
	}
	return c.DecodePayload(ContentFormat(f), base, resp.Payload)
}

// mayBeEmpty reports whether an answer without a payload says that nothing is at base. Not every client sends the empty list
// that its format has for an instance without resources, or a multiple resource without instances.
func (c Codec) mayBeEmpty(f ContentFormat, base Path) bool {
	if base.Len() != 3 {
		return base.Len() < 3
	}
	if r, known := c.Models.Resource(base); known {
		return r.Multiple
	}
	return f.Canonical() != FormatText && f != FormatOpaque // in which it is the empty value
}

// ReadComposite returns the values at and below several paths at once (LwM2M 1.1). What is absent is left out.
func (s *Server) ReadComposite(ctx context.Context, endpoint string, paths []Path, opts ...RequestOption) ([]Entry, error) {
	o := newRequestOptions(opts)
	var codec Codec
	resp, err := s.inFormats(o, compositeFormats, func(f ContentFormat) *request {
		return &request{endpoint: endpoint, safe: true, opts: o, build: s.composite(paths, f, &codec)}
	}).do(ctx, s, endpoint)
	if err != nil {
		return nil, err
	}
	return codec.answer(resp, Path{})
}

// composite builds a Read-Composite, and sets the codec of its answers.
func (s *Server) composite(paths []Path, f ContentFormat, codec *Codec) func(*session) (*coap.Request, error) {
	return func(ss *session) (*coap.Request, error) {
		*codec = s.codec(ss)
		body, err := codec.AppendPaths(nil, f, paths)
		if err != nil {
			return nil, err
		}
		format := coap.FormatOf(uint16(f))
		return &coap.Request{Code: coap.FETCH, Path: ss.segments(Path{}), ContentFormat: format, Accept: format, Payload: body}, nil
	}
}

// Discover returns what the device has at and below path, with its attributes.
func (s *Server) Discover(ctx context.Context, endpoint string, path Path, opts ...RequestOption) ([]Discovered, error) {
	if path.IsRoot() || path.Len() > 3 {
		return nil, fmt.Errorf("%w: %s cannot be discovered", ErrPath, path)
	}
	var root string
	resp, err := s.do(ctx, &request{endpoint: endpoint, path: path, safe: true, opts: newRequestOptions(opts),
		build: func(ss *session) (*coap.Request, error) {
			root = ss.root
			return &coap.Request{Code: coap.GET, Path: ss.segments(path), Accept: coap.FormatOf(uint16(FormatLink))}, nil
		}})
	if err != nil {
		return nil, err
	}
	return ParseDiscover(resp.Payload, root)
}

// Write replaces what is at path, an instance, a resource or a resource instance, by entries, which lie at or below it.
func (s *Server) Write(ctx context.Context, endpoint string, path Path, entries []Entry, opts ...RequestOption) error {
	return s.write(ctx, endpoint, coap.PUT, path, entries, opts)
}

// WriteValue sets the value of the resource or resource instance at path.
func (s *Server) WriteValue(ctx context.Context, endpoint string, path Path, v Value, opts ...RequestOption) error {
	if path.Len() < 3 {
		return fmt.Errorf("%w: %s is not a resource", ErrPath, path)
	}
	return s.write(ctx, endpoint, coap.PUT, path, []Entry{{Path: path, Value: v}}, opts)
}

// WritePartial sets entries below the instance or multiple resource at path and keeps what is not among them.
func (s *Server) WritePartial(ctx context.Context, endpoint string, path Path, entries []Entry, opts ...RequestOption) error {
	return s.write(ctx, endpoint, coap.POST, path, entries, opts)
}

func (s *Server) write(ctx context.Context, endpoint string, code coap.Code, path Path, entries []Entry, opts []RequestOption) error {
	if path.Len() < 2 {
		return fmt.Errorf("%w: %s cannot be written", ErrPath, path)
	}
	o := newRequestOptions(opts)
	_, err := s.inFormats(o, writeFormats(path, entries), func(f ContentFormat) *request {
		return &request{endpoint: endpoint, path: path, opts: o, build: s.writing(code, path, entries, f)}
	}).do(ctx, s, endpoint)
	return err
}

// writing builds a request that carries entries.
func (s *Server) writing(code coap.Code, path Path, entries []Entry, f ContentFormat) func(*session) (*coap.Request, error) {
	return func(ss *session) (*coap.Request, error) {
		body, err := s.codec(ss).AppendPayload(nil, f, path, entries)
		if err != nil {
			return nil, err
		}
		return &coap.Request{Code: code, Path: ss.segments(path), ContentFormat: coap.FormatOf(uint16(f)), Payload: body}, nil
	}
}

// WriteComposite sets entries anywhere on the device, all or none (LwM2M 1.1).
func (s *Server) WriteComposite(ctx context.Context, endpoint string, entries []Entry, opts ...RequestOption) error {
	o := newRequestOptions(opts)
	_, err := s.inFormats(o, compositeFormats, func(f ContentFormat) *request {
		return &request{endpoint: endpoint, opts: o, build: s.writing(coap.IPATCH, Path{}, entries, f)}
	}).do(ctx, s, endpoint)
	return err
}

// WriteAttributes sets notification attributes at path, and removes those that are marked as cleared.
func (s *Server) WriteAttributes(ctx context.Context, endpoint string, path Path, attributes Attributes, opts ...RequestOption) error {
	if path.IsRoot() {
		return fmt.Errorf("%w: the root has no attributes", ErrPath)
	}
	_, err := s.do(ctx, &request{endpoint: endpoint, path: path, opts: newRequestOptions(opts),
		build: func(ss *session) (*coap.Request, error) {
			return &coap.Request{Code: coap.PUT, Path: ss.segments(path), Queries: attributes.Queries()}, nil
		}})
	return err
}

// Execute runs the resource at path; args is "" or an argument list such as "0='x',5".
func (s *Server) Execute(ctx context.Context, endpoint string, path Path, args string, opts ...RequestOption) error {
	if !path.IsResource() {
		return fmt.Errorf("%w: %s is not a resource", ErrPath, path)
	}
	if _, err := ParseArguments([]byte(args)); err != nil {
		return err
	}
	_, err := s.do(ctx, &request{endpoint: endpoint, path: path, opts: newRequestOptions(opts),
		build: func(ss *session) (*coap.Request, error) {
			msg := &coap.Request{Code: coap.POST, Path: ss.segments(path), Payload: []byte(args)}
			if args != "" {
				msg.ContentFormat = coap.FormatOf(uint16(FormatText))
			}
			return msg, nil
		}})
	return err
}

// Create makes an instance of the object at path with the values of entries, all of one instance, which is the new one. The
// path returned is that of the instance as the device tells it, or as entries do.
func (s *Server) Create(ctx context.Context, endpoint string, path Path, entries []Entry, opts ...RequestOption) (Path, error) {
	if !path.IsObject() {
		return Path{}, fmt.Errorf("%w: %s is not an object", ErrPath, path)
	}
	o := newRequestOptions(opts)
	resp, err := s.inFormats(o, instanceFormats, func(f ContentFormat) *request {
		return &request{endpoint: endpoint, path: path, opts: o, build: s.writing(coap.POST, path, entries, f)}
	}).do(ctx, s, endpoint)
	if err != nil {
		return Path{}, err
	}
	if p, ok := locationOf(resp); ok && path.Contains(p) && p.IsInstance() {
		return p, nil
	}
	if len(entries) > 0 {
		return entries[0].Path.Prefix(2), nil
	}
	return Path{}, nil
}

// locationOf returns the path that an answer's Location-Path options name.
func locationOf(resp *coap.Response) (Path, bool) {
	var location strings.Builder
	for _, o := range resp.Options {
		if o.ID == coap.LocationPath {
			location.WriteByte('/')
			location.Write(o.Value)
		}
	}
	return parsePath(location.String())
}

// Delete removes the instance, or since LwM2M 1.2 the resource instance, at path.
func (s *Server) Delete(ctx context.Context, endpoint string, path Path, opts ...RequestOption) error {
	if path.Len() < 2 {
		return fmt.Errorf("%w: %s cannot be deleted", ErrPath, path)
	}
	_, err := s.do(ctx, &request{endpoint: endpoint, path: path, opts: newRequestOptions(opts),
		build: func(ss *session) (*coap.Request, error) {
			return &coap.Request{Code: coap.DELETE, Path: ss.segments(path)}, nil
		}})
	return err
}

// WriteStreamOptions are the options of [Server.WriteStream].
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
	if path.Len() < 3 {
		return fmt.Errorf("%w: %s is not a resource", ErrPath, path)
	}
	r := &request{endpoint: endpoint, path: path, lane: laneStream, opts: requestOptions{noWait: opts.NoWait}}
	if opts.Exclusive {
		r.lane = laneExclusive
	}
	r.build = func(ss *session) (*coap.Request, error) {
		return &coap.Request{
			Code: coap.PUT, Path: ss.segments(path), ContentFormat: coap.FormatOf(uint16(FormatOpaque)),
			Body: body, Size: size, BlockSize: opts.BlockSize, Exclusive: opts.Exclusive,
			Progress: func(done, total int64) {
				s.answered(ss)
				if opts.Progress != nil {
					opts.Progress(done, size)
				}
			},
		}, nil
	}
	_, err := s.do(ctx, r)
	return err
}

// formatted is a request that may be made in several formats.
type formatted struct {
	opts    requestOptions
	formats func(Registration) []ContentFormat
	build   func(ContentFormat) *request
}

func (s *Server) inFormats(o requestOptions, formats func(Registration) []ContentFormat, build func(ContentFormat) *request) *formatted {
	return &formatted{opts: o, formats: formats, build: build}
}

// do makes the request in one format after the other until the device takes one.
func (f *formatted) do(ctx context.Context, s *Server, endpoint string) (resp *coap.Response, err error) {
	if f.opts.hasFormat {
		return s.do(ctx, f.build(f.opts.format))
	}
	reg, ok := s.Registration(endpoint)
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNotRegistered, endpoint)
	}
	for _, format := range f.formats(reg) {
		resp, e := s.do(ctx, f.build(format))
		switch {
		case e == nil:
			return resp, nil
		case errors.Is(e, ErrNotEncodable) && err != nil:
			continue // the device's word counts for more
		}
		err = e
		if !errors.Is(e, ErrUnsupportedFormat) && !errors.Is(e, ErrNotAcceptable) && !errors.Is(e, ErrNotEncodable) {
			break
		}
	}
	return nil, err
}
