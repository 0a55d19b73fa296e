package firmware

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/otago-iot/otago/store"
)

// A grant makes an image available at one path for one update, until that update ends. The path
// ends with a secret token or, if the profile needs it, is public. The grant holds only the hash of
// the token or of the public path.
type grant struct {
	hash     string // SHA-256, in hex, as newToken or publicPath returned it
	update   string
	endpoint string
	image    string
	follower follower // nil for none
}

// A follower receives the events of a grant. Its methods are called often, from several goroutines,
// and must not block.
type follower interface {
	// served reports that the first done bytes of the package were sent to the device.
	served(update string, done int64)
	// asked reports the first request for the package, and its protocol.
	asked(update, by string)
	// imageFault reports that the package is damaged, or missing.
	imageFault(update string, err error)
	// imageTrouble reports that the package cannot be read now.
	imageTrouble(update string, err error)
}

var (
	// errNotReady: the manager has not yet loaded all grants of the updates active at the start.
	errNotReady = errors.New("firmware: downloads are not ready yet")
	// errNoGrant: no grant has this path.
	errNoGrant = errors.New("firmware: no such download")
	// errPathTaken: the public path is granted for another image.
	errPathTaken = errors.New("firmware: public path leads to another image")
)

// grants is the table of grants, for all transports.
type grants struct {
	mu       sync.Mutex
	ready    bool
	byHash   map[string]*download
	byUpdate map[string][]string // update -> hashes
}

// A download is one granted path and the updates that use it: only one if the path is secret.
type download struct {
	image   string
	updates map[string]*share // by id

	opening sync.Mutex // guards the fields below
	pkg     *Package   // nil before the first request
	ended   bool
	asked   map[string]bool // updates for which a request came
}

// A share is the part of one update in a download.
type share struct {
	endpoint string
	follower follower
	done     int64 // bytes from the start, sent since the device last began there
	most     int64 // the maximum of done
}

// allow adds a grant. It returns errPathTaken, and changes nothing, if the path is granted for
// another image.
func (d *Delivery) allow(g grant) error {
	t := &d.table
	t.mu.Lock()
	defer t.mu.Unlock()
	down := t.byHash[g.hash]
	if down == nil {
		down = &download{image: g.image, updates: make(map[string]*share)}
		t.byHash[g.hash] = down
	}
	if down.image != g.image {
		return errPathTaken
	}
	if down.updates[g.update] == nil {
		down.updates[g.update] = &share{endpoint: g.endpoint}
		t.byUpdate[g.update] = append(t.byUpdate[g.update], g.hash)
	}
	down.updates[g.update].follower = g.follower
	return nil
}

// revoke ends all grants of an update. Transfers under way stop, unless another update shares their
// path.
func (d *Delivery) revoke(update string) {
	t := &d.table
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, hash := range t.byUpdate[update] {
		down := t.byHash[hash]
		delete(down.updates, update)
		if len(down.updates) == 0 {
			delete(t.byHash, hash)
			go down.end() // in a goroutine, as it may wait for open
		}
	}
	delete(t.byUpdate, update)
}

// setReady records that the grants of all updates active at the start are loaded.
func (d *Delivery) setReady() {
	d.table.mu.Lock()
	defer d.table.mu.Unlock()
	d.table.ready = true
}

func (t *grants) isReady() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ready
}

// first reports whether this is the first request for the download for an update.
func (d *download) first(update string) bool {
	d.opening.Lock()
	defer d.opening.Unlock()
	if d.asked[update] {
		return false
	}
	if d.asked == nil {
		d.asked = make(map[string]bool)
	}
	d.asked[update] = true
	return true
}

// open returns the download's package. The first call opens it.
func (d *download) open(ctx context.Context, images *Repository) (*Package, error) {
	d.opening.Lock()
	defer d.opening.Unlock()
	if d.ended {
		return nil, errNoGrant
	}
	if d.pkg == nil {
		pkg, err := images.Open(context.WithoutCancel(ctx), d.image)
		if err != nil {
			return nil, err
		}
		d.pkg = pkg
		return pkg, nil
	}
	d.pkg.revive()
	return d.pkg, nil
}

// keepOpen opens the packages of an update's downloads before the device requests them.
func (d *Delivery) keepOpen(update string) {
	t := &d.table
	t.mu.Lock()
	var list []*download
	for _, hash := range t.byUpdate[update] {
		list = append(list, t.byHash[hash])
	}
	t.mu.Unlock()
	for _, down := range list {
		_, _ = down.open(context.Background(), d.images) // the device's request meets the same error
	}
}

// end closes the package, if it is open, and makes open fail.
func (d *download) end() {
	d.opening.Lock()
	defer d.opening.Unlock()
	d.ended = true
	if d.pkg != nil {
		_ = d.pkg.Close()
	}
}

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
