package lwm2m

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/otago-iot/otago/internal/coap"
)

// FetchConfig is the configuration of [Fetch]. The zero value downloads from the beginning.
type FetchConfig struct {
	// Offset is where to resume an interrupted download, ETag the ETag of its earlier part. If the
	// server sends another ETag, or none, Fetch fails with ErrChanged before it writes anything.
	// Default: from 0. Size is the size of the whole, if the earlier part knew it: another size is
	// ErrChanged too, and a download that ends earlier is incomplete. Default: not known.
	Offset int64
	ETag   []byte
	Size   int64
	// PSK and PSKIdentity (for coaps), or Certificate, and RootCAs are the credentials for coaps
	// and coaps+tcp. A PSK needs a PSKIdentity here. Default: none; the system's roots.
	PSK         []byte
	PSKIdentity string
	Certificate *tls.Certificate
	RootCAs     *x509.CertPool
	// BlockSize is the largest block to ask for: 16 to 1024 bytes, a power of two. Default: 1024.
	BlockSize int
	// MaxSize bounds the download; a bigger one fails with ErrTooLarge. Default: no bound.
	MaxSize int64
	// Idle is how long to wait for each block, with all retransmissions. Default: 93 s (UDP), 30 s
	// (TCP).
	Idle time.Duration
	// Begun is called once, before the first byte is written, with the Size and ETag that are known
	// then. To resume after a crash, store the ETag together with the bytes. It must not block.
	// Default: none.
	Begun func(FetchResult)
	// Progress is called after each block with the number of bytes of the whole that are written,
	// and the size of the whole, -1 while unknown. It must not block. Default: none.
	Progress func(done, total int64)
	// Listen makes the socket for coap and coaps. Default: a UDP socket on a free port.
	Listen func(context.Context) (net.PacketConn, error)
}

// FetchResult is the result of a [Fetch].
type FetchResult struct {
	// Size is the size of the whole, -1 if the download failed before it was known.
	Size int64
	// ETag identifies the bytes; nil if the server sent none, and then the download cannot be
	// resumed.
	ETag []byte
	// Written is the number of bytes written to the io.Writer in this call.
	Written int64
}

// Fetch downloads uri, by coap, coaps, coap+tcp or coaps+tcp, and writes it to w in order. On error
// the result has what a later Fetch needs to resume: Offset+Written and ETag. Errors are
// [ErrUnsupportedScheme]; [ErrPath] for a bad URI; a [*ResponseError]; [ErrTimeout],
// [ErrUnreachable], [ErrChanged] and [ErrTooLarge]; [ErrMalformed] for answers that do not add up,
// such as one that ends before the announced size; and those of w, of ctx and of config.
func Fetch(ctx context.Context, uri string, w io.Writer, config FetchConfig) (FetchResult, error) {
	none := FetchResult{Size: -1}
	target, err := parseFetchURI(uri)
	if err != nil {
		return none, err
	}
	if len(config.PSK) > 0 && config.PSKIdentity == "" {
		return none, errors.New("lwm2m: FetchConfig.PSKIdentity: not set, and PSK is")
	}
	addr, err := resolve(ctx, target.server)
	if err != nil {
		return none, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	ep := coap.New(coap.Config{})
	defer ep.Close()
	d := dialer{
		psk: config.PSK, pskIdentity: config.PSKIdentity, certificate: config.Certificate, roots: config.RootCAs,
		listen: config.Listen,
	}
	peer, err := d.dial(ctx, ep, target.server, addr)
	switch {
	case err == nil:
	case errors.Is(err, ErrUnsupportedScheme):
		return none, err
	case ctx.Err() != nil:
		return none, fmt.Errorf("%w: %w", ctx.Err(), err)
	default:
		return none, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer ep.Hangup(peer)
	return fetch(ctx, ep, peer, target, w, config)
}

// fetchURI is the URI of a download.
type fetchURI struct {
	server   serverURI
	segments []string
	queries  []string
}

const maxURI = 2048

// parseFetchURI reads the URI of a download. Empty segments are kept, as in "coap://host//x".
func parseFetchURI(uri string) (f fetchURI, err error) {
	if len(uri) > maxURI {
		return f, fmt.Errorf("%w: longer than %d bytes", ErrPath, maxURI)
	}
	u, err := parseURI(uri)
	if err != nil {
		return f, err
	}
	if f.server, err = endpointOf(u); err != nil {
		return f, err
	}
	if u.Opaque != "" || u.User != nil || u.Fragment != "" || f.server.host == "" {
		return f, fmt.Errorf("%w: a download is scheme, host, path and query", ErrPath)
	}
	if f.segments, err = unescapeAll(strings.TrimPrefix(u.EscapedPath(), "/"), "/"); err != nil {
		return f, err
	}
	f.queries, err = unescapeAll(u.RawQuery, "&")
	return f, err
}

// unescapeAll splits s and decodes the parts, each of which is an option of 255 bytes at most.
func unescapeAll(s, separator string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	parts := strings.Split(s, separator)
	for i, part := range parts {
		decoded, err := url.PathUnescape(part)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPath, err)
		}
		if len(decoded) > 255 {
			return nil, fmt.Errorf("%w: a segment is longer than 255 bytes", ErrPath)
		}
		parts[i] = decoded
	}
	return parts, nil
}

// blockAlign divides the offset of every block.
const blockAlign = 16

// fetch downloads over an association.
func fetch(ctx context.Context, ep *coap.Endpoint, peer coap.Peer, target fetchURI, w io.Writer, config FetchConfig) (FetchResult, error) {
	if config.Offset < 0 || config.Size < 0 || config.Size > 0 && config.Offset > config.Size {
		return FetchResult{Size: -1}, fmt.Errorf("%w: to go on at %d of %d bytes", ErrBadRequest, config.Offset, config.Size)
	}
	if config.Offset > 0 && len(config.ETag) == 0 {
		return FetchResult{Size: -1}, fmt.Errorf("%w: to go on at an offset the ETag is needed", ErrBadRequest)
	}
	skip := config.Offset % blockAlign
	if skip == 0 && config.Offset > 0 && config.Offset == config.Size {
		skip = blockAlign // there is no block behind the end
	}
	out := &fetchWriter{w: w, skip: skip, room: config.MaxSize - config.Offset, bounded: config.MaxSize > 0}
	result := FetchResult{Size: -1, ETag: config.ETag}
	resp, err := ep.Do(ctx, peer, &coap.Request{
		Code: coap.GET, Path: target.segments, Queries: target.queries,
		Into: out, Offset: config.Offset - skip, ETag: config.ETag, Total: config.Size, BlockSize: config.BlockSize, Idle: config.Idle,
		BusyRetry: fetchBusyRetry,
		Begun: func(etag []byte, total int64) {
			result.ETag, result.Size = etag, total
			if config.Begun != nil {
				config.Begun(result)
			}
		},
		Progress: func(_, total int64) {
			if total >= 0 {
				result.Size = total
			}
			if config.Progress != nil {
				config.Progress(config.Offset+out.written, result.Size)
			}
		},
	})
	result.Written = out.written
	if err != nil {
		if e, ok := errors.AsType[*coap.ExchangeError](err); ok && len(e.ETag) > 0 {
			result.ETag = e.ETag
		}
		return result, fetchError(ctx, err)
	}
	if err := responseError(resp, Path{}); err != nil {
		return result, err
	}
	result.ETag = resp.ETag
	result.Size = config.Offset + out.written
	return result, nil
}

// fetchBusyRetry is how long Fetch repeats a request to a server that is busy (5.03).
const fetchBusyRetry = 2 * time.Minute

func fetchError(ctx context.Context, err error) error {
	var kind error
	switch {
	case ctx.Err() != nil:
		kind = ctx.Err()
	case errors.Is(err, coap.ErrTimeout):
		kind = ErrTimeout
	case errors.Is(err, coap.ErrETagChanged):
		kind = ErrChanged
	case errors.Is(err, coap.ErrTooLarge):
		kind = ErrTooLarge
	case errors.Is(err, coap.ErrProtocol):
		kind = ErrMalformed
	case errors.Is(err, coap.ErrReset), errors.Is(err, coap.ErrPeerGone), errors.Is(err, coap.ErrNoPeer):
		kind = ErrUnreachable
	default:
		return err
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// fetchWriter passes a download on, without the bytes before the requested offset, up to a bound.
type fetchWriter struct {
	w       io.Writer
	skip    int64
	written int64
	room    int64
	bounded bool
}

func (f *fetchWriter) Write(p []byte) (int, error) {
	skipped := min(f.skip, int64(len(p)))
	f.skip -= skipped
	rest := p[skipped:]
	if f.bounded && f.written+int64(len(rest)) > f.room {
		return 0, ErrTooLarge
	}
	n, err := f.w.Write(rest)
	if n < 0 || n > len(rest) { // the number of bytes written is unknown
		n, err = 0, cmp.Or(err, io.ErrShortWrite)
	}
	f.written += int64(n)
	return int(skipped) + n, err
}
