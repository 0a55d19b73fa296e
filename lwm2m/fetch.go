package lwm2m

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"time"
)

// FetchConfig is the configuration of [Fetch]. The zero value downloads from the beginning.
type FetchConfig struct {
	// Offset is where to go on with a download that was interrupted; ETag is what its earlier part had. If the server's ETag
	// is another one, or has none, Fetch fails with ErrChanged before it writes anything. Default: from 0.
	Offset int64
	ETag   []byte
	// PSK and PSKIdentity, or Certificate, and RootCAs are the credentials for coaps and coaps+tcp. Default: none; the system's roots.
	PSK         []byte
	PSKIdentity string
	Certificate *tls.Certificate
	RootCAs     *x509.CertPool
	// BlockSize is the largest block to ask for: 16 to 1024 bytes, a power of two. Default: 1024.
	BlockSize int
	// MaxSize bounds the download; a bigger one fails with ErrTooLarge. Default: no bound.
	MaxSize int64
	// Idle is how long to wait for each block, with all retransmissions. Default: 93 s (UDP), 30 s (TCP).
	Idle time.Duration
	// Progress is called after each block with the bytes of the whole that are written, and the whole, -1 while unknown.
	// It must not block. Default: none.
	Progress func(done, total int64)
	// Listen makes the socket for coap and coaps. Default: an UDP socket on a free port.
	Listen func(context.Context) (net.PacketConn, error)
}

// FetchResult says what was fetched.
type FetchResult struct {
	// Size is the size of the whole, -1 if the download failed before it was known.
	Size int64
	// ETag identifies the bytes; nil if the server sent none, and then the download cannot be resumed.
	ETag []byte
	// Written is the number of bytes written to the io.Writer in this call.
	Written int64
}

// Fetch downloads what uri names, by coap, coaps, coap+tcp or coaps+tcp, and writes it to w in order. On error the result
// tells what is needed to go on: Offset+Written and ETag. Errors: [ErrUnsupportedScheme], [ErrPath] for a URI that is
// none, a [*ResponseError], [ErrTimeout], [ErrChanged], [ErrTooLarge], those of w and of ctx.
func Fetch(ctx context.Context, uri string, w io.Writer, config FetchConfig) (FetchResult, error) {
	return FetchResult{Size: -1}, ErrNotImplemented
}
