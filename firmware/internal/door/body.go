package door

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// A Body is a request's body that has to keep coming: a read ends with [os.ErrDeadlineExceeded]
// once BodyIdle has passed without a byte.
type Body struct {
	io.ReadCloser
	set func(time.Time) error // the connection's read deadline
	end time.Time             // of the whole body; zero for none

	mu   sync.Mutex
	over bool // there is nothing more to read, or it has not come in time
	done bool // the handler has returned: the deadline is the connection's again
}

// limitBody limits the waits for a request's body. Once that has ended, net/http reads on without a
// limit, to see whether the client is still there. Before the first read, and after the handler has
// returned, only net/http may wait for a body that nobody wants.
func limitBody(w http.ResponseWriter, r *http.Request) (_ *http.Request, release func()) {
	if r.Body == nil || r.Body == http.NoBody {
		return r, func() {}
	}
	if _, ok := r.Body.(*Body); ok { // the server has done it already
		return r, func() {}
	}
	b := &Body{ReadCloser: r.Body, set: http.NewResponseController(w).SetReadDeadline}
	var first time.Time // HTTP/2 does not wait so: there the server's deadline would end the body before it is read
	if r.ProtoMajor < 2 {
		first = time.Now().Add(BodyDiscard)
	}
	_ = b.set(first)               // not every ResponseWriter has deadlines; the server's own then hold
	r = r.WithContext(r.Context()) // net/http looks at the body of its own request
	r.Body = b
	return r, b.release
}

// EndBy sets a time by which the whole body must have come.
func EndBy(body io.Reader, end time.Time) {
	if b, ok := body.(*Body); ok {
		b.end = end
	}
}

// extend allows for the next read. It reports false if the whole body should have come.
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
