package coap

import (
	"crypto/hmac"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// echoKey signs Echo values (RFC 9175, section 2).
type echoKey [32]byte

// echoLifetime is how long an Echo value proves the peer's address.
const echoLifetime = exchangeLifetime

const echoSize = 16

func newEchoKey(r *random) (k echoKey) {
	for i := 0; i < len(k); i += 8 {
		binary.BigEndian.PutUint64(k[i:], r.uint64())
	}
	return k
}

// value makes an Echo value for an address: a time, and a keyed hash of the time and the address.
func (k *echoKey) value(addr netip.AddrPort, now time.Duration) []byte {
	v := binary.BigEndian.AppendUint32(nil, uint32(now/time.Second))
	return k.sign(v, addr)
}

func (k *echoKey) sign(stamp []byte, addr netip.AddrPort) []byte {
	h := hmac.New(sha256.New, k[:])
	h.Write(stamp)
	a, _ := addr.MarshalBinary()
	h.Write(a)
	return h.Sum(stamp[:len(stamp):len(stamp)])[:echoSize]
}

func (k *echoKey) valid(v []byte, addr netip.AddrPort, now time.Duration) bool {
	if len(v) != echoSize {
		return false
	}
	age := now - time.Duration(binary.BigEndian.Uint32(v))*time.Second
	return age >= 0 && age <= echoLifetime && hmac.Equal(v, k.sign(v[:4], addr))
}

// AddressVerified reports whether the peer is known to receive at its address: always, except on
// UDP, where the request must echo a value that was sent to the address (see
// [IncomingRequest.Challenge]). Without that, the address may be forged.
func (r *IncomingRequest) AddressVerified() bool {
	if r.Peer.Transport != UDP {
		return true
	}
	v, ok := Bytes(r.Options, Echo)
	e := r.exchange.e
	if !ok || !e.echo.valid(v, r.Peer.Addr, e.timers.now()) {
		return false
	}
	r.exchange.a.verified.Store(true)
	return true
}

// Challenge returns a response that asks the peer to repeat the request and prove its address: 4.01
// with an Echo option. A client that does not know Echo treats it as a refusal.
func (r *IncomingRequest) Challenge() *Response {
	e := r.exchange.e
	return &Response{
		Code:    Unauthorized,
		Options: Options{{ID: Echo, Value: e.echo.value(r.Peer.Addr, e.timers.now())}},
	}
}

// random generates message ids, tokens and timeouts with ChaCha8. An attacker does not know the
// seed and cannot guess tokens (RFC 7252, section 5.3.1).
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
