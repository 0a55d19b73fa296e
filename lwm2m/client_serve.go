package lwm2m

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/otago-iot/otago/internal/coap"
)

// An operation is a request of the server that a client answers.
type operation struct {
	link   *link
	client *Client
	r      *coap.IncomingRequest // a copy, which the program may keep
	path   Path
	after  *afterResponse

	mu   sync.Mutex
	over bool // the request was answered
}

// serveCOAP answers the requests of the server. A body that was received whole and is refused all
// the same is aborted.
func (l *link) serveCOAP(_ context.Context, r *coap.IncomingRequest) *coap.Response {
	resp := l.serveServer(r)
	if s, ok := r.Sink.(*streamSink); ok && s.take() {
		s.Abort(fmt.Errorf("%w: the value was not committed", ErrUnavailable))
	}
	return resp
}

func (l *link) serveServer(r *coap.IncomingRequest) *coap.Response {
	if !l.fromServer(r) {
		return errorResponse(ErrUnauthorized)
	}
	path, ok := parsePath(r.Path())
	if !ok || strings.Contains(r.Path(), "//") {
		return errorResponse(ErrNotFound)
	}
	if !l.arrived() {
		return errorResponse(errRunEnded)
	}
	resp := l.answer(r, path)
	after := resp.After
	code := r.Code
	resp.After = func() {
		if after != nil {
			after()
		}
		l.answered(code)
	}
	return resp
}

// answer serves a request of the server.
func (l *link) answer(r *coap.IncomingRequest, path Path) *coap.Response {
	c := l.client
	if r.Code != coap.GET && r.Code != coap.FETCH && c.calls.crowded(scopeAfter) {
		return errorResponse(fmt.Errorf("%w: what earlier requests began has not ended", ErrUnavailable))
	}
	op := &operation{link: l, client: c, r: ownRequest(r), path: path, after: &afterResponse{calls: c.calls}}
	ctx := context.WithValue(l.ctx, afterKey{}, op.after)
	resp, err := call(l.closed, c.calls, scopeOf(path), "Object", func() (*coap.Response, error) { return op.serve(ctx) }, nil)
	op.answered()
	if err != nil {
		l.client.log.Debug("request refused", slog.Any("path", path), slog.Any("error", err))
		resp = errorResponse(err)
	}
	if op.after.any() {
		resp.After = op.after.run
	}
	return resp
}

// ownRequest copies a request, since the program's code may still use it after the answer.
func ownRequest(r *coap.IncomingRequest) *coap.IncomingRequest {
	own := *r
	own.Payload = bytes.Clone(r.Payload)
	own.Options = slices.Clone(r.Options)
	for i, o := range own.Options {
		own.Options[i].Value = bytes.Clone(o.Value)
	}
	return &own
}

// answered records that the request was answered, so that accept no longer uses it.
func (op *operation) answered() {
	op.mu.Lock()
	defer op.mu.Unlock()
	op.over = true
}

// accept turns the request into an observation. It returns nil if the endpoint accepts none.
func (op *operation) accept() *coap.Observer {
	op.mu.Lock()
	defer op.mu.Unlock()
	if op.over {
		return nil
	}
	return op.r.Accept()
}

// scopeOf returns the scope of calls for a request of path.
func scopeOf(path Path) scope {
	if path.IsRoot() {
		return scopeComposite
	}
	return scope(path.Object())
}

// fromServer reports whether a request came from the server's address. Any host may send to the
// socket.
func (l *link) fromServer(r *coap.IncomingRequest) bool {
	from := r.Peer.Addr
	return from.Port() == l.addr.Port() && from.Addr().Unmap().WithZone("") == l.addr.Addr().WithZone("")
}

func (op *operation) serve(ctx context.Context) (*coap.Response, error) {
	if op.path.IsRoot() {
		switch op.r.Code {
		case coap.FETCH:
			return op.fetch(ctx)
		case coap.IPATCH:
			return op.patch(ctx)
		default:
			return nil, ErrMethodNotAllowed
		}
	}
	if err := op.client.exists(op.path); err != nil {
		return nil, err
	}
	switch op.r.Code {
	case coap.GET:
		return op.get(ctx)
	case coap.PUT:
		return op.put(ctx)
	case coap.POST:
		return op.post(ctx)
	case coap.DELETE:
		return op.delete(ctx)
	default:
		return nil, ErrMethodNotAllowed
	}
}

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

// model returns the model of an object that the client offers, if possible in the object's version.
func (c *Client) model(id uint16) (*ObjectModel, bool) {
	v := objectVersion(c.objects[id])
	if v.isZero() {
		v = Version{Major: 1}
	}
	if m, ok := c.config.Models.Object(id, v); ok {
		return m, true
	}
	return c.config.Models.Object(id, Version{})
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

// known reports whether the client has a model of an object that it offers.
func (c *Client) known(id uint16) bool {
	_, ok := c.model(id)
	return ok
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

// get answers Read, Observe and Discover.
func (op *operation) get(ctx context.Context) (*coap.Response, error) {
	if f, ok := op.r.AcceptFormat().Get(); ok && ContentFormat(f) == FormatLink {
		return op.discover(ctx)
	}
	if v, ok := op.r.Observe(); ok && v == 0 {
		return op.observe(ctx, []Path{op.path})
	}
	entries, err := op.client.read(ctx, op.path)
	if err != nil {
		return nil, err
	}
	return op.content(op.path, entries)
}

// read returns the values at and below path, sorted.
func (c *Client) read(ctx context.Context, path Path) ([]Entry, error) {
	if err := c.exists(path); err != nil {
		return nil, err
	}
	o := c.objects[path.Object()]
	if path.Len() >= 3 {
		if err := c.allows(path, Readable); err != nil {
			return nil, err
		}
	}
	var entries []Entry
	if path.IsObject() {
		for _, id := range o.Instances() {
			below, err := o.Read(ctx, NewPath(path.Object(), id))
			if err != nil && !errors.Is(err, ErrNotFound) { // the instance may be gone
				return nil, err
			}
			entries = append(entries, below...)
		}
	} else {
		var err error
		if entries, err = o.Read(ctx, path); err != nil {
			return nil, err
		}
	}
	if path.Len() < 3 { // a resource that servers only write, such as a password, is in no answer
		entries = slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool {
			return errors.Is(c.allows(e.Path, Readable), ErrMethodNotAllowed)
		})
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.Path.Compare(b.Path) })
	return entries, nil
}

// content answers with entries, in the format that the server asks for, else in one that suits
// them.
func (op *operation) content(base Path, entries []Entry) (*coap.Response, error) {
	f := op.client.format(op.link.version, base, entries)
	if accept, ok := op.r.AcceptFormat().Get(); ok {
		f = ContentFormat(accept)
	}
	return op.client.encode(f, base, entries)
}

// encode makes a response with entries.
func (c *Client) encode(f ContentFormat, base Path, entries []Entry) (*coap.Response, error) {
	body, err := AppendPayload(nil, f, base, entries, c.config.Models)
	if errors.Is(err, ErrUnsupportedFormat) || errors.Is(err, ErrNotEncodable) {
		return nil, fmt.Errorf("%w: %s as %s", ErrNotAcceptable, base, f)
	}
	if err != nil {
		return nil, err
	}
	return &coap.Response{Code: coap.Content, ContentFormat: coap.FormatOf(uint16(f)), Payload: body}, nil
}

// format returns the format for entries when the server asks for none: text or opaque for a single
// value, TLV for LwM2M 1.0 and SenML CBOR later for anything else.
func (c *Client) format(v Version, base Path, entries []Entry) ContentFormat {
	if base.Len() >= 3 && len(entries) == 1 && entries[0].Path == base {
		if entries[0].Value.Type() == TypeOpaque {
			return FormatOpaque
		}
		return FormatText
	}
	if v.Minor == 0 {
		return FormatTLV
	}
	return FormatSenMLCBOR
}

// post answers Execute, Write in its partial form, and Create.
func (op *operation) post(ctx context.Context) (*coap.Response, error) {
	switch {
	case op.path.IsObject():
		return op.create(ctx)
	case op.path.IsResource() && op.isExecute():
		return op.execute(ctx)
	default:
		return op.write(ctx, false)
	}
}

// isExecute distinguishes Execute from a write by the model, or by the format of the payload.
func (op *operation) isExecute() bool {
	if m, ok := op.client.model(op.path.Object()); ok {
		r, _ := m.resource(op.path.Resource())
		return !r.Operations.has(Writable)
	}
	f, ok := op.r.ContentFormat().Get()
	return !ok || ContentFormat(f) == FormatText
}

func (op *operation) execute(ctx context.Context) (*coap.Response, error) {
	if err := op.client.allows(op.path, Executable); err != nil {
		return nil, err
	}
	if f, ok := op.r.ContentFormat().Get(); ok && ContentFormat(f) != FormatText {
		return nil, ErrUnsupportedFormat
	}
	if _, err := ParseArguments(string(op.r.Payload)); err != nil {
		return nil, err
	}
	o := op.client.objects[op.path.Object()]
	if err := o.Execute(ctx, op.path, string(op.r.Payload)); err != nil {
		return nil, err
	}
	return &coap.Response{Code: coap.Changed}, nil
}
