package coap

import (
	crand "crypto/rand"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"sync"
)

// random gives message ids, tokens and timeouts: ChaCha8 from a seed that an
// attacker does not know, so that tokens cannot be guessed (RFC 7252, section
// 5.3.1).
type random struct {
	mu     sync.Mutex
	src    *rand.ChaCha8
	jitter func() float64
}

func newRandom(seeds io.Reader, jitter func() float64) *random {
	if seeds == nil {
		seeds = crand.Reader
	}
	var seed [32]byte
	if _, err := io.ReadFull(seeds, seed[:]); err != nil {
		panic("coap: Config.Rand: " + err.Error())
	}
	return &random{src: rand.NewChaCha8(seed), jitter: jitter}
}

func (r *random) uint64() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.src.Uint64()
}

// float returns a number in [0, 1) for a timeout.
func (r *random) float() float64 {
	if r.jitter != nil {
		return r.jitter()
	}
	return float64(r.uint64()>>11) / (1 << 53)
}

func (r *random) token() token {
	t := token{n: 8}
	binary.BigEndian.PutUint64(t.b[:], r.uint64())
	return t
}
