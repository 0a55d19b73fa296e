package lwm2m

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/otago-iot/otago/internal/coap"
)

// A RequestOption changes how a request is made.
type RequestOption func(*requestOptions)

type requestOptions struct {
	noWait    bool
	format    ContentFormat
	hasFormat bool
}

// NoWait makes a request fail with [ErrAsleep] instead of waiting for a device that sleeps.
func NoWait() RequestOption { return func(o *requestOptions) { o.noWait = true } }

// WithFormat sets the content format of what is sent by a write, or asked for by a read. Default: what suits the device's
// version and what it announced, other formats when it refuses that.
func WithFormat(f ContentFormat) RequestOption {
	return func(o *requestOptions) { o.format, o.hasFormat = f, true }
}

func newRequestOptions(opts []RequestOption) (o requestOptions) {
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// session is the right to send a request to a device, and what is needed for it.
type session struct {
	device  *device
	ticket  *ticket
	ctx     context.Context // ends also when the device is no longer where the request goes
	peer    coap.Peer
	id      string // of the registration
	version Version
	root    string // what prefixes paths on the device, "" for nothing
}

// segments returns the path as Uri-Path options, below the device's root.
func (ss *session) segments(path Path) []string {
	var segments []string
	for s := range strings.SplitSeq(strings.Trim(ss.root, "/"), "/") {
		if s != "" {
			segments = append(segments, s)
		}
	}
	for i := range path.Len() {
		segments = append(segments, strconv.Itoa(int(path.id(i))))
	}
	return segments
}

// admit waits until a request may be sent to endpoint. A session must be released.
func (s *Server) admit(ctx context.Context, endpoint string, l lane, noWait bool) (*session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.ensureLoaded()
	s.mu.Lock()
	d := s.table.byEndpoint[endpoint]
	if d == nil || !d.active() {
		s.mu.Unlock()
		return nil, fmt.Errorf("%w: %s", ErrNotRegistered, endpoint)
	}
	if !d.queue && !d.reachable {
		s.mu.Unlock()
		return nil, fmt.Errorf("%w: %s", ErrUnreachable, endpoint)
	}
	if noWait && d.queue && (!d.awake || !d.reachable) {
		s.mu.Unlock()
		return nil, fmt.Errorf("%w: %s", ErrAsleep, endpoint)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	t := &ticket{lane: l, granted: make(chan error, 1), cancel: cancel}
	q := &d.act().queue
	q.waiting = append(q.waiting, t)
	s.grant(d)
	s.mu.Unlock()

	ss := &session{device: d, ticket: t, ctx: ctx}
	select {
	case err := <-t.granted:
		if err != nil {
			s.release(ss)
			return nil, fmt.Errorf("%w: %s", err, endpoint)
		}
	case <-ctx.Done():
		s.release(ss)
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	ss.peer, ss.id, ss.version, ss.root = d.peer, d.id, d.version, d.root()
	s.mu.Unlock()
	if ss.id == "" {
		s.release(ss)
		return nil, fmt.Errorf("%w: %s", ErrNotRegistered, endpoint)
	}
	return ss, nil
}

// release ends a session and lets the next requests go.
func (s *Server) release(ss *session) {
	ss.ticket.cancel(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	d := ss.device
	if d.activity != nil {
		d.activity.queue.remove(ss.ticket)
		s.grant(d)
		d.trim()
	}
}

// request is what is to be done at a device.
type request struct {
	endpoint string
	path     Path
	lane     lane
	safe     bool // changes nothing, so it may be repeated
	opts     requestOptions
	// build makes the message for the device as it is now.
	build func(*session) (*coap.Request, error)
	// send sends it. Nil: Endpoint.Do.
	send func(context.Context, *session, *coap.Request) (*coap.Response, error)
}

// do makes a request, again if it is safe and the device moved or fell asleep in the middle, and returns an answer that is
// a success.
func (s *Server) do(ctx context.Context, r *request) (*coap.Response, error) {
	for {
		ss, err := s.admit(ctx, r.endpoint, r.lane, r.opts.noWait)
		if err != nil {
			return nil, err
		}
		resp, again, err := s.attempt(ctx, ss, r)
		s.release(ss)
		if !again {
			return resp, err
		}
	}
}

// attempt makes a request once. again asks for another time.
func (s *Server) attempt(ctx context.Context, ss *session, r *request) (resp *coap.Response, again bool, err error) {
	msg, err := r.build(ss)
	if err != nil {
		return nil, false, err
	}
	if r.send != nil {
		resp, err = r.send(ss.ctx, ss, msg)
	} else {
		resp, err = s.exchange(ss.ctx, ss.peer, msg)
	}
	if err != nil {
		asleep := s.unanswered(ss, err)
		moved := ctx.Err() == nil && errors.Is(context.Cause(ss.ctx), errInterrupted)
		unsent := moved && !errors.Is(err, coap.ErrDeliveryUnknown)
		if unsent || r.safe && !r.opts.noWait && (moved || asleep) {
			return nil, true, nil
		}
		return nil, false, r.failure(ss, err)
	}
	s.answered(ss)
	if err := responseError(resp, r.path); err != nil {
		return nil, false, err
	}
	return resp, false, nil
}

// exchange is Endpoint.Do, which finds a device on UDP also when the socket that it used is no more.
func (s *Server) exchange(ctx context.Context, peer coap.Peer, msg *coap.Request) (*coap.Response, error) {
	resp, err := s.coap.Do(ctx, peer, msg)
	if errors.Is(err, coap.ErrNoPeer) && peer.Transport == coap.UDP && peer.ID != 0 {
		peer.ID = 0
		return s.coap.Do(ctx, peer, msg)
	}
	return resp, err
}

// answered notes that the device answered.
func (s *Server) answered(ss *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ss.device.id == ss.id && ss.device.peer == ss.peer {
		s.hear(ss.device)
	}
}

// unanswered notes that the device did not answer. It reports whether the device is in queue mode and so taken to sleep.
func (s *Server) unanswered(ss *session, err error) (asleep bool) {
	if !errors.Is(err, coap.ErrTimeout) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := ss.device
	if !d.queue || d.id != ss.id || d.peer != ss.peer {
		return false
	}
	s.fallAsleep(d)
	return true
}

// failure says why a request failed, in the words of this package.
func (r *request) failure(ss *session, err error) error {
	kind := err
	switch cause := context.Cause(ss.ctx); {
	case cause != nil:
		kind = cause
	case errors.Is(err, coap.ErrTimeout):
		kind = ErrTimeout
	case errors.Is(err, coap.ErrReset), errors.Is(err, coap.ErrPeerGone), errors.Is(err, coap.ErrNoPeer):
		kind = ErrUnreachable
	case errors.Is(err, coap.ErrTooLarge):
		kind = ErrTooLarge
	case errors.Is(err, coap.ErrBusy):
		kind = ErrUnavailable
	case errors.Is(err, coap.ErrClosed):
		kind = ErrClosed
	case errors.Is(err, coap.ErrETagChanged):
		kind = ErrChanged
	}
	return &requestError{
		endpoint: r.endpoint, path: r.path, kind: kind, cause: err,
		unknown: !r.safe && errors.Is(err, coap.ErrDeliveryUnknown),
	}
}

// requestError is a request that got no answer.
type requestError struct {
	endpoint string
	path     Path
	kind     error // the category, or the error of a context
	cause    error // what the transport said
	unknown  bool  // the request may have been carried out
}

func (e *requestError) Error() string {
	s := fmt.Sprintf("%v (%s of %s)", e.kind, e.path, e.endpoint)
	if e.unknown {
		s += ": it may have been carried out"
	}
	return s
}

func (e *requestError) Is(target error) bool { return target == ErrDeliveryUnknown && e.unknown }

func (e *requestError) Unwrap() []error { return []error{e.kind, e.cause} }

const maxDiagnostic = 256

// responseError returns the error that an answer is, or nil for a success.
func responseError(resp *coap.Response, path Path) error {
	code := Code(resp.Code)
	if code>>5 == 2 {
		return nil
	}
	text := resp.Payload
	if f, ok := resp.ContentFormat.Get(); ok && f != uint16(FormatText) {
		text = nil
	}
	return &ResponseError{Code: code, Path: path, Diagnostic: strings.ToValidUTF8(string(text[:min(len(text), maxDiagnostic)]), "")}
}

// errorResponse answers with the code of an error and its text.
func errorResponse(err error) *coap.Response {
	text := strings.TrimPrefix(err.Error(), "lwm2m: ")
	if re, ok := errors.AsType[*ResponseError](err); ok {
		text = re.Diagnostic
	}
	code := codeOf(err)
	if code == CodeInternal {
		text = "" // nobody else's business
	}
	return &coap.Response{Code: coap.Code(code), Payload: []byte(text[:min(len(text), maxDiagnostic)])}
}
