package door

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// A Body is a request's body with a limit on each wait: Read returns [os.ErrDeadlineExceeded] after
// BodyIdle without a byte.
type Body struct {
	io.ReadCloser
	set func(time.Time) error // the connection's read deadline
	end time.Time             // of the whole body; zero for none

	mu   sync.Mutex
	over bool // the body has ended, or was late
	done bool // the handler has returned: the deadline is the server's again
}

// limitBody limits the waits for a request's body. Before the handler's first read, and after the
// handler has returned, it gives net/http BodyDiscard to read and discard the body. After the
// body's end net/http reads on without a limit, to notice that the client has gone.
func limitBody(w http.ResponseWriter, r *http.Request) (_ *http.Request, release func()) {
	if r.Body == nil || r.Body == http.NoBody {
		return r, func() {}
	}
	if _, ok := r.Body.(*Body); ok { // the server has limited it already
		return r, func() {}
	}
	b := &Body{ReadCloser: r.Body, set: http.NewResponseController(w).SetReadDeadline}
	var first time.Time // none for HTTP/2, where it would end the body before the handler reads it
	if r.ProtoMajor < 2 {
		first = time.Now().Add(BodyDiscard)
	}
	_ = b.set(first)               // a ResponseWriter without deadlines keeps those of the server
	r = r.WithContext(r.Context()) // a copy, because net/http uses the body of its own request
	r.Body = b
	return r, b.release
}

// EndBy sets the time by which the whole body must arrive.
func EndBy(body io.Reader, end time.Time) {
	if b, ok := body.(*Body); ok {
		b.end = end
	}
}

// extend sets the deadline of the next read. It reports false if the whole body is late.
func (b *Body) extend() bool {
	now := time.Now()
	limit := now.Add(BodyIdle)
	if !b.end.IsZero() && b.end.Before(limit) {
		limit = b.end
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.done && !b.over {
		_ = b.set(limit)
	}
	if !limit.After(now) {
		b.over = true
		return false
	}
	return true
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	if !b.extend() {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.over = true
	}
	return n, err
}

func (b *Body) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done = true; !b.over {
		_ = b.set(time.Now().Add(BodyDiscard))
	}
}
