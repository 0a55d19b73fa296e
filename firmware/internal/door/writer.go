package door

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"time"
)

// Piece is how many bytes a response writes under one deadline as a rule: a client that reads 100
// bytes a second takes 41 s for them.
const Piece = 4 << 10

// A writer is a response with a limit on each wait for the client: Write fails after limit without
// room for a piece.
type writer struct {
	http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
	piece   int
	taken   bool // the handler has hijacked the connection
}

// Limit limits the waits of a handler: for its request's body, and for a client that does not
// accept a piece of the response, of so many bytes, within the time answer. If w is limited
// already, it gets the new limits. The handler calls done when it returns, which limits what
// net/http then still reads and writes.
func Limit(w http.ResponseWriter, r *http.Request, answer time.Duration, piece int) (_ http.ResponseWriter, _ *http.Request, done func()) {
	r, release := limitBody(w, r)
	if known := find(w); known != nil {
		known.limit, known.piece = answer, piece
		return w, r, release
	}
	limited := &writer{ResponseWriter: w, control: http.NewResponseController(w), limit: answer, piece: piece}
	// No deadline until the handler writes: in HTTP/2 that of the server would end a long upload.
	_ = limited.control.SetWriteDeadline(time.Time{}) // a ResponseWriter without deadlines keeps those of the server
	return limited, r, func() {
		if !limited.taken {
			release()
			limited.extend()
		}
	}
}

// find returns the writer that w wraps, or nil.
func find(w http.ResponseWriter) *writer {
	for {
		switch v := w.(type) {
		case *writer:
			return v
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return nil
		}
	}
}

func (w *writer) extend() { _ = w.control.SetWriteDeadline(time.Now().Add(w.limit)) }

// Unwrap is for [http.ResponseController].
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *writer) WriteHeader(status int) {
	w.extend()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *writer) Write(p []byte) (n int, err error) {
	for first := true; first || err == nil && n < len(p); first = false {
		w.extend()
		var m int
		m, err = w.ResponseWriter.Write(p[n:min(n+w.piece, len(p))])
		n += m
	}
	return n, err
}

// FlushError is for [http.ResponseController]. It leaves no deadline: one that passes before the
// next write would end a stream of HTTP/2.
func (w *writer) FlushError() error {
	w.extend()
	if err := w.control.Flush(); err != nil {
		return err
	}
	if err := w.control.SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// Flush implements http.Flusher.
func (w *writer) Flush() { _ = w.FlushError() }

// Hijack implements http.Hijacker.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := w.control.Hijack()
	w.taken = err == nil
	return c, rw, err
}
