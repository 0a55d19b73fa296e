package lwm2m

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/otago-iot/otago/internal/coap"
)

// put answers Write and Write-Attributes.
func (op *operation) put(ctx context.Context) (*coap.Response, error) {
	if !op.r.ContentFormat().IsSet() && len(op.r.Payload) == 0 && op.r.Sink == nil {
		return op.writeAttributes(ctx)
	}
	if op.path.IsObject() {
		return nil, ErrMethodNotAllowed
	}
	return op.write(ctx, true)
}

// write answers Write: it decodes the values, checks them by the model, and passes them to the
// object.
func (op *operation) write(ctx context.Context, replace bool) (*coap.Response, error) {
	if op.path.Len() >= 3 {
		if err := op.client.allows(op.path, Writable); err != nil {
			return nil, err
		}
	}
	if s, ok := op.r.Sink.(*streamSink); ok {
		if err := s.Commit(ctx); err != nil {
			return nil, err
		}
		return op.written(op.path), nil
	}
	f, ok := op.r.ContentFormat().Get()
	if !ok {
		return nil, fmt.Errorf("%w: a write needs a content format", ErrUnsupportedFormat)
	}
	entries, err := DecodePayload(ContentFormat(f), op.path, op.r.Payload, op.client.models)
	if err != nil {
		return nil, err
	}
	if entries, err = op.client.writable(entries); err != nil {
		return nil, err
	}
	if o, ok := op.client.objects[op.path.Object()].(interface{ removes(uint16) bool }); ok && replace {
		if err := op.client.complete(op.path, entries, o.removes); err != nil {
			return nil, err
		}
	}
	if err := op.client.apply(ctx, op.path, entries, replace); err != nil {
		return nil, err
	}
	return op.written(op.path), nil
}

// apply passes values to an object. A single opaque value goes to the Sink of a [StreamWriter], if
// it returns one.
func (c *Client) apply(ctx context.Context, path Path, entries []Entry, replace bool) error {
	o := c.objects[path.Object()]
	s, ok := o.(StreamWriter)
	if !ok || len(entries) != 1 || entries[0].Path != path || entries[0].Value.Type() != TypeOpaque {
		return o.Write(ctx, path, entries, replace)
	}
	body, _ := entries[0].Value.Bytes()
	sink, err := s.OpenWrite(ctx, path, int64(len(body)))
	if err != nil {
		return err
	}
	if sink == nil {
		return o.Write(ctx, path, entries, replace)
	}
	n, err := sink.Write(body)
	if err == nil && n != len(body) {
		err = io.ErrShortWrite
	}
	if err != nil {
		sink.Abort(err)
		return err
	}
	return sink.Commit(ctx)
}

// written answers a write, and reports the change to observers. The client updates the registration
// only after the answer: if the server refuses settings that it wrote, the association may end.
func (op *operation) written(paths ...Path) *coap.Response {
	op.client.notify(paths)
	if !op.after.add(op.client.wake) {
		op.client.wake()
	}
	return &coap.Response{Code: coap.Changed}
}

// openSink decides, at the first block of a body, where the body goes. It returns a Sink for an
// opaque value of a [StreamWriter], nil for a body to collect in memory.
func (l *link) openSink(r *coap.IncomingRequest) (coap.Sink, *coap.Response) {
	path, ok := parsePath(r.Path())
	f, hasFormat := r.ContentFormat().Get()
	if !ok || r.Code != coap.PUT || path.Len() < 3 || !hasFormat || ContentFormat(f) != FormatOpaque {
		return nil, nil
	}
	if !l.fromServer(r) {
		return nil, errorResponse(ErrUnauthorized)
	}
	s, ok := l.client.objects[path.Object()].(StreamWriter)
	if !ok {
		return nil, nil
	}
	if l.client.calls.crowded(scopeSink) {
		return nil, errorResponse(fmt.Errorf("%w: earlier values have not ended", ErrUnavailable))
	}
	size := r.Size
	sink, err := call(l.closed, l.client.calls, scopeOf(path), "OpenWrite", func() (Sink, error) {
		if err := l.client.exists(path); err != nil {
			return nil, err
		}
		if err := l.client.allows(path, Writable); err != nil {
			return nil, err
		}
		return s.OpenWrite(l.ctx, path, size)
	}, func(late Sink) {
		if late != nil {
			late.Abort(errRunEnded)
		}
	})
	if err != nil {
		return nil, errorResponse(err)
	}
	if sink == nil {
		return nil, nil
	}
	return &streamSink{link: l, sink: sink, turn: make(chan struct{}, 1)}, nil
}

// streamSink connects the endpoint to a Sink. If a method of the Sink hangs, the endpoint stops
// waiting for it.
type streamSink struct {
	link *link
	sink Sink
	turn chan struct{} // holds a token while a method of sink is under way
	done atomic.Bool   // Commit or Abort has the sink
}

// take reports whether the caller is the first to end the sink.
func (s *streamSink) take() bool { return s.done.CompareAndSwap(false, true) }

// do calls a method of the Sink when the one before has returned.
func (s *streamSink) do(name string, f func() (int, error)) (int, error) {
	return call(s.link.closed, s.link.client.calls, scopeSink, name, func() (int, error) {
		s.turn <- struct{}{}
		defer func() { <-s.turn }()
		return f()
	}, nil)
}

func (s *streamSink) Write(p []byte) (int, error) {
	own := bytes.Clone(p)
	n, err := s.do("Write of a Sink", func() (int, error) { return s.sink.Write(own) })
	if err != nil {
		resp := errorResponse(err)
		return n, &coap.StatusError{Code: resp.Code, Diagnostic: string(resp.Payload)}
	}
	return n, nil
}

func (s *streamSink) Commit(ctx context.Context) error {
	if !s.take() {
		return errRunEnded
	}
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	return s.sink.Commit(ctx)
}

// Abort calls the Sink even if the link is closed, which may be the reason, but then does not wait.
func (s *streamSink) Abort(err error) {
	_, _ = s.do("Abort of a Sink", func() (int, error) {
		s.sink.Abort(err)
		return 0, nil
	})
}
