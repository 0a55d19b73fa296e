package lwm2m

import (
	"errors"
	"math/rand/v2"
	"time"
)

// backoff is the pause before another attempt to register. It doubles from least to most; a part of it is chance, so that
// a fleet that lost its server does not come back as one.
type backoff struct {
	least, most time.Duration
	current     time.Duration
}

func (b *backoff) reset() { b.current = 0 }

// next returns the pause after an attempt that failed with err. The server may ask for a longer one.
func (b *backoff) next(err error) time.Duration {
	b.current = max(b.least, min(2*b.current, b.most))
	pause := b.current/2 + rand.N(b.current/2+1)
	if later, ok := errors.AsType[*retryAfter](err); ok {
		pause = max(pause, min(later.after, b.most))
	}
	return pause
}

// retryAfter is an error answer with a Max-Age, which says when to ask again.
type retryAfter struct {
	error
	after time.Duration
}

func (e *retryAfter) Unwrap() error { return e.error }
