package firmware

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/otago-iot/otago/store"
)

// A served is a package that is sent to a device, by any transport.
type served struct {
	pkg  *Package
	size int64
	etag []byte

	ctx      context.Context // of the request, bounds waits; nil for no bound
	d        *Delivery
	download *download
	update   string   // "" if unknown
	follower follower // of the update; nil for none
}

// ReadAt implements io.ReaderAt, for the whole package. It reports a failure to the follower,
// because the device cannot report it.
func (s *served) ReadAt(b []byte, off int64) (int, error) {
	ctx := s.ctx
	if ctx == nil {
		ctx = context.Background()
	}
	n, err := s.pkg.readAt(ctx, b, off)
	if want := min(int64(len(b)), s.size-off); int64(n) < want && ctx.Err() == nil {
		if s.pkg.shared.mirror() == nil && !errors.Is(err, os.ErrClosed) {
			err = fmt.Errorf("%w: %d of %d bytes at %d could be read", ErrDamaged, n, want, off)
		}
		s.d.failed(s.update, s.follower, s.pkg.image.ID, err)
	}
	return n, err
}

// find returns the package that a path is granted for. It compares only the last segment of a
// secret path, as the Delivery may be mounted anywhere, and the whole of a public path. It ignores
// empty segments at the start: some devices request "//path". endpoint is the requesting device, or
// "" if the transport does not know it; find ignores grants of other endpoints.
//
// The package can be read until the grant is revoked. by names the protocol of the request. The
// error is errNoGrant, errNotReady, or that of Repository.Open.
func (d *Delivery) find(ctx context.Context, path, endpoint, by string) (*served, error) {
	path = "/" + strings.TrimLeft(path, "/")
	t := &d.table
	t.mu.Lock()
	down := t.byHash[hashOf(path)]
	if last := path[strings.LastIndexByte(path, '/')+1:]; down == nil && isToken(last) {
		down = t.byHash[hashOf(last)]
	}
	s, ok := &served{d: d, download: down}, false
	if down != nil {
		s.update, s.follower, ok = down.choose(endpoint)
	}
	ready := t.ready
	t.mu.Unlock()
	switch {
	case !ok && !ready && d.mayLead(path):
		return nil, errNotReady
	case !ok:
		return nil, errNoGrant
	}
	if s.update != "" && down.first(s.update) && s.follower != nil {
		s.follower.asked(s.update, by)
	}
	pkg, err := down.open(ctx, d.images)
	if err != nil {
		if !errors.Is(err, errNoGrant) {
			d.failed(s.update, s.follower, down.image, err)
		}
		return nil, err
	}
	s.pkg, s.size, s.etag = pkg, pkg.Size(), pkg.ETag()
	return s, nil
}

// failed logs, and reports to f, that an image cannot be read.
func (d *Delivery) failed(update string, f follower, image string, err error) {
	if errors.Is(err, os.ErrClosed) {
		return // the grant has ended
	}
	d.log.Error("an image that a device asks for cannot be read", "image", image, "update", update, "error", err)
	switch {
	case f == nil:
	case lost(err):
		f.imageFault(update, err)
	default:
		f.imageTrouble(update, err)
	}
}

// lost reports whether an error means that an image is damaged or missing. Only adding it again
// helps then.
func lost(err error) bool { return errors.Is(err, ErrDamaged) || errors.Is(err, store.ErrNotFound) }

// mayLead reports whether a path has the form of granted paths.
func (d *Delivery) mayLead(path string) bool {
	return isToken(path[strings.LastIndexByte(path, '/')+1:]) || strings.HasPrefix(path, d.config.PublicPrefix)
}

// choose returns the update for which an endpoint may download, or "" if there is more than one. ok
// reports whether there is any.
func (d *download) choose(endpoint string) (update string, f follower, ok bool) {
	for id, s := range d.updates {
		if endpoint == "" || s.endpoint == endpoint {
			if ok {
				return "", nil, true
			}
			update, f, ok = id, s.follower, true
		}
	}
	return update, f, ok
}

// sent records that the bytes from start to end were sent to the device, and reports progress. It
// returns false once the grants of the download are revoked.
func (s *served) sent(start, end int64) bool {
	t := &s.d.table
	t.mu.Lock()
	granted := len(s.download.updates) > 0
	part := s.download.updates[s.update]
	moved := false
	// Bytes after a gap do not count, except the first ones: the device may have got those before
	// them before a restart of the server. A device may also start again, or read the start and
	// then continue where it was.
	if part != nil && (start == 0 && end != part.done || end > part.done && (start <= part.most || part.most == 0)) {
		part.done, part.most, moved = end, max(part.most, end), true
	}
	t.mu.Unlock()
	if moved && s.follower != nil {
		s.follower.served(s.update, end)
	}
	return granted
}

// reached is [served.sent] for a transport that reports only where a piece ended.
func (s *served) reached(offset int64) {
	start := max(1, offset-maxPiece)
	if offset <= firstBlock {
		start = 0
	}
	s.sent(start, offset)
}

const (
	maxPiece   = 64 << 10 // bounds a piece that CoAP sends
	firstBlock = 1024     // bounds a block: a piece that ends within it starts at 0
)
