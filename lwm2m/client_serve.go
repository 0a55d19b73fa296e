package lwm2m

import (
	"bytes"
	"context"
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
