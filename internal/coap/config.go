package coap

import (
	"io"
	"log/slog"
	"net/netip"
	"time"

	"github.com/otago-iot/otago/internal/dtls"
	"github.com/otago-iot/otago/internal/files"
)

// Transmission holds the parameters of RFC 7252, section 4.8.
type Transmission struct {
	// ACKTimeout is the least time before the first retransmission. Default 2 s.
	ACKTimeout time.Duration
	// RandomFactor spreads the first timeout over [ACKTimeout, ACKTimeout*RandomFactor). Default
	// 1.5; a value below 1 means 1.
	RandomFactor float64
	// MaxRetransmit is the number of retransmissions. Default 4; negative means none.
	MaxRetransmit int
	// Jitter, if not nil, returns the random part of each message's first timeout, a number in [0,
	// 1), in place of the endpoint's own source.
	Jitter func() float64
}

// idle is MAX_TRANSMIT_WAIT (RFC 7252, section 4.8.2).
func (t *Transmission) idle() time.Duration {
	spans := float64(int(1)<<(min(t.MaxRetransmit, 16)+1) - 1)
	return time.Duration(float64(t.ACKTimeout) * spans * t.RandomFactor)
}

// Config configures an [Endpoint]. The zero value works.
type Config struct {
	// Handler answers the requests of peers. Nil answers all with 4.04.
	Handler Handler
	// Sinks decides, at the first block of a request body, where the body goes. If Sinks is nil, or
	// returns a nil Sink and no Response, the endpoint collects the body in memory, up to MaxBody.
	// A Response refuses the body. A body that comes in one message is in IncomingRequest.Payload;
	// Sinks is not called for it.
	Sinks func(*IncomingRequest) (Sink, *Response)
	// OnClosed is called once when an association (DTLS, TCP, TLS) has ended and its Peer is no
	// longer valid, in a goroutine of its own. Nil is allowed.
	OnClosed func(Peer)
	// HandshakeFailed is called when a DTLS or TLS handshake fails with a client whose address is
	// verified, by a cookie or by a connection. identity is the beginning of the PSK identity that
	// the client claims, or "". err is the reason; it includes the client's alert, such as "bad
	// certificate". HandshakeFailed is called in a goroutine of its own, at most 100 times in a
	// second and at most 100 times concurrently; further failures are not reported. Nil is allowed.
	HandshakeFailed func(t Transport, addr netip.AddrPort, identity string, err error)
	// Hooks are for metrics.
	Hooks Hooks

	// Transmission configures retransmissions of confirmable messages.
	Transmission Transmission
	// BlockSize is the preferred block size: a power of two from 16 to 1024. Default 1024.
	BlockSize int
	// MaxBody limits a body that is collected in memory, in either direction. Default 64 KiB.
	MaxBody int
	// AckDelay is how long a handler may take before the endpoint acknowledges the request with an
	// empty message and sends the response separately. Default 1 s.
	AckDelay time.Duration
	// UploadIdle is how long an unfinished Block1 body of a peer is kept after its last block.
	// Default 247 s (EXCHANGE_LIFETIME).
	UploadIdle time.Duration
	// DownloadIdle is how long the body of a response that a peer fetches by Block2 is kept after
	// its last request for a block. Default 120 s.
	DownloadIdle time.Duration
	// Drain limits how long work in progress may continue once a Serve context has ended. Default 5
	// s.
	Drain time.Duration

	// Gate reports whether the endpoint may send. It is asked before each system call that sends;
	// while it returns false, datagrams are lost, and streams end. Nil: always.
	Gate func() bool

	// SocketBuffer is the size in bytes of the receive buffer and the send buffer that the endpoint
	// asks the system for, for each UDP socket that it serves. Default 32 MiB. It never makes a
	// buffer smaller. If the system gives less than that and less than 4 MiB, it logs a warning.
	SocketBuffer int

	// Bounds limits the memory that peers can occupy.
	Bounds Bounds

	// Logger receives what an operator should know. Default: no logs.
	Logger *slog.Logger
	// Rand is the source of message ids, tokens and timeouts. It is used under a lock. Default:
	// crypto/rand. Tests use a seeded one.
	Rand io.Reader
}

// Hooks are functions for metrics. The endpoint calls them with locks held: they must return at
// once, must not panic, and must not call the endpoint. Nil is allowed.
type Hooks struct {
	// Associated is called when a client has completed a DTLS or TLS handshake.
	Associated func(p Peer, proven *dtls.Identity)
	// Retransmitted is called when a message of ours is sent again.
	Retransmitted func(p Peer)
	// TurnedAway is called when a peer's request finds no room.
	TurnedAway func(p Peer)
	// Rejected is called when a notification is rejected because there is no such observation. Over
	// UDP anyone may have sent it: the token proves nothing.
	Rejected func(p Peer)
}

// Bounds limits the state that peers, hostile or merely numerous, can make an endpoint keep. Zero
// fields take the default. Where all peers share a limit, the peers of one transport, or UDP peers
// whose address may be forged, get at most six tenths of it (of Streams three quarters); see the
// package's documentation.
type Bounds struct {
	// Peers is how many peers may have any state: dedup entries, transfers, observations. Default
	// 1,000,000; the one that was idle longest is forgotten first.
	Peers int
	// Workers is how many handlers run at once. Default 256.
	Workers int
	// Queue is how many requests may wait for a worker; each further KiB of a request counts as
	// another one. Default 65,536, so that a fleet can register at once.
	Queue int
	// PeerWorkers and PeerQueue are the same for a single peer. Default 8, 32.
	PeerWorkers, PeerQueue int
	// PeerRequests is how many messages to one peer may be queued or unanswered. Default 256.
	PeerRequests int
	// Uploads is how many Block1 bodies may be unfinished. Default 4096; one peer may have
	// PeerUploads, default 4.
	Uploads, PeerUploads int
	// UploadBytes limits the unfinished Block1 bodies that are collected in memory, all together.
	// Default 64 MiB.
	UploadBytes int64
	// Downloads is how many response bodies are kept for Block2. Default 4096; for one peer
	// PeerDownloads, default 4.
	Downloads, PeerDownloads int
	// DedupEntries and DedupBytes limit the memory for recognizing duplicates. Default 1,000,000
	// and 64 MiB.
	DedupEntries, DedupBytes int
	// Streams is how many connections (TCP, TLS) may be open, including those in a handshake. Each
	// may occupy 18 KiB with an incomplete frame. Default 10,000, or a quarter of the files that
	// the process may have open.
	Streams int
	// StreamBytes limits the bytes that wait to be written to all streams; one stream may have 256
	// KiB of it. Above the limit a stream may have 4 KiB; it is closed if it needs more. Default 64
	// MiB.
	StreamBytes int64
	// Handshakes and IdentitySessions are those of [dtls.Config].
	Handshakes, IdentitySessions int
	// Observers is how many observations all peers may have here, and PeerObservers how many one
	// peer may have. Default 10,000 and 64.
	Observers, PeerObservers int
}

// withDefaults returns c with each zero field set to its default.
func (c Config) withDefaults() Config {
	t := &c.Transmission
	setDefault(&t.ACKTimeout, 2*time.Second)
	setDefault(&t.RandomFactor, 1.5)
	t.RandomFactor = max(t.RandomFactor, 1)
	setDefault(&t.MaxRetransmit, 4)
	t.MaxRetransmit = max(t.MaxRetransmit, 0)
	setDefault(&c.BlockSize, 1024)
	setDefault(&c.MaxBody, 64<<10)
	setDefault(&c.AckDelay, time.Second)
	setDefault(&c.UploadIdle, exchangeLifetime)
	setDefault(&c.DownloadIdle, 120*time.Second)
	setDefault(&c.Drain, 5*time.Second)
	setDefault(&c.SocketBuffer, 32<<20)
	b := &c.Bounds
	setDefault(&b.Peers, 1_000_000)
	setDefault(&b.Workers, 256)
	setDefault(&b.Queue, 65_536)
	setDefault(&b.PeerWorkers, 8)
	setDefault(&b.PeerQueue, 32)
	setDefault(&b.PeerRequests, 256)
	setDefault(&b.Uploads, 4096)
	setDefault(&b.PeerUploads, 4)
	setDefault(&b.UploadBytes, 64<<20)
	setDefault(&b.Downloads, 4096)
	setDefault(&b.PeerDownloads, 4)
	setDefault(&b.DedupEntries, 1_000_000)
	setDefault(&b.DedupBytes, 64<<20)
	setDefault(&b.Streams, max(4, min(10_000, files.Limit()/4)))
	setDefault(&b.StreamBytes, 64<<20)
	setDefault(&b.Observers, 10_000)
	setDefault(&b.PeerObservers, 64)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
