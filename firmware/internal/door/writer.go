package door

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"time"
)

// piece is how many bytes are written under one deadline: a reader of 100 bytes a second takes them
// in 41 s.
const piece = 4 << 10

// A writer is a response whose reader has to keep reading: a write fails once limit has passed
// without room for a piece.
type writer struct {
	http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
	taken   bool // the connection is another's, and so are its limits
}

// Limit limits the waits of a handler: for the body of its request, and for who reads its response,
// who may take nothing for answer. What a server has limited already gets the new limit. The
// handler calls done when it returns, for what net/http then still has to read and to write.
func Limit(w http.ResponseWriter, r *http.Request, answer time.Duration) (_ http.ResponseWriter, _ *http.Request, done func()) {
	r, release := limitBody(w, r)
	if known := find(w); known != nil {
		known.limit = answer
		return w, r, release
	}
	limited := &writer{ResponseWriter: w, control: http.NewResponseController(w), limit: answer}
	// Until the handler writes nobody waits: in HTTP/2 a deadline of the server's would end a long
	// upload.
	_ = limited.control.SetWriteDeadline(time.Time{}) // not every ResponseWriter has deadlines; the server's own then hold
	return limited, r, func() {
		if !limited.taken {
			release()
			limited.extend()
		}
	}
}

// find returns the writer below those of others.
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
		m, err = w.ResponseWriter.Write(p[n:min(n+piece, len(p))])
		n += m
	}
	return n, err
}

// FlushError is for [http.ResponseController]. Between two flushes nobody waits: a deadline that
// passes then would end a stream of HTTP/2.
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

// Flush implements http.Flusher, for handlers of others.
func (w *writer) Flush() { _ = w.FlushError() }

// Hijack implements http.Hijacker, for handlers of others.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := w.control.Hijack()
	w.taken = err == nil
	return c, rw, err
}
