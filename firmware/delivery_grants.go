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

// A grant lets one path lead to an image, on behalf of an update, until that update ends. The path
// ends with a secret token or, for a profile that needs one, with a public name; a grant holds only
// the hash of either.
type grant struct {
	hash     string // SHA-256, in hex, as newToken or publicPath returned it
	update   string
	endpoint string
	image    string
	follower follower // nil for none
}

// A follower hears what becomes of a grant. Its methods are called often, from several goroutines,
// and do not block.
type follower interface {
	// served reports that the device was sent the package from its start up to done.
	served(update string, done int64)
	// asked reports the first request for the package, and its protocol.
	asked(update, by string)
	// imageFault reports that the package cannot be handed out: it is damaged, or missing.
	imageFault(update string, err error)
	// imageTrouble reports that the package cannot be handed out now.
	imageTrouble(update string, err error)
}

var (
	// errNotReady: the grants of updates that were active before the start are not all loaded yet.
	errNotReady = errors.New("firmware: downloads are not ready yet")
	// errNoGrant: the path leads nowhere.
	errNoGrant = errors.New("firmware: no such download")
	// errPathTaken: the public path leads to another image.
	errPathTaken = errors.New("firmware: public path leads to another image")
)

// grants is the table of what can be downloaded, the same for all transports.
type grants struct {
	mu       sync.Mutex
	ready    bool
	byHash   map[string]*download
	byUpdate map[string][]string // update -> hashes
}

// A download is one path and the updates that it serves: one if it is secret.
type download struct {
	image   string
	updates map[string]*share // by id

	opening sync.Mutex // guards what follows
	pkg     *Package   // nil before the first request
	ended   bool
	asked   map[string]bool // updates on whose behalf a request came
}

// A share is one update's part of a download.
type share struct {
	endpoint string
	follower follower
	done     int64 // bytes from the start that the device was sent since it last began there
	most     int64 // the most that done has been
}

// allow adds a grant. It returns errPathTaken if a public path leads to another image, and changes
// nothing then.
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

// revoke ends all grants of an update. Downloads under way break off, unless another update has
// them too.
func (d *Delivery) revoke(update string) {
	t := &d.table
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, hash := range t.byUpdate[update] {
		down := t.byHash[hash]
		delete(down.updates, update)
		if len(down.updates) == 0 {
			delete(t.byHash, hash)
			go down.end() // which may have to wait for one that opens it
		}
	}
	delete(t.byUpdate, update)
}

// setReady says that the grants of all updates that were active at the start are known.
func (d *Delivery) setReady() {
	d.table.mu.Lock()
	defer d.table.mu.Unlock()
	d.table.ready = true
}

// first reports whether this is the first request for the download on behalf of an update.
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

// open returns the download's package, which the first call opens.
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

// keepOpen opens the packages of an update's downloads, which are then at hand when the device
// asks.
func (d *Delivery) keepOpen(update string) {
	t := &d.table
	t.mu.Lock()
	var list []*download
	for _, hash := range t.byUpdate[update] {
		list = append(list, t.byHash[hash])
	}
	t.mu.Unlock()
	for _, down := range list {
		_, _ = down.open(context.Background(), d.images) // an error is met again by the device
	}
}

// end closes the package, if it was opened, and keeps it from being opened.
func (d *download) end() {
	d.opening.Lock()
	defer d.opening.Unlock()
	d.ended = true
	if d.pkg != nil {
		_ = d.pkg.Close()
	}
}

// A served is a package on its way to a device, whatever the transport.
type served struct {
	pkg  *Package
	size int64
	etag []byte

	ctx      context.Context // of the request, which bounds waits; nil for none
	d        *Delivery
	download *download
	update   string   // "" if it is not known for which one
	follower follower // of update; nil for none
}

// ReadAt implements io.ReaderAt, for the whole package. If it fails the journal says so: the device
// cannot.
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

// find returns what a path leads to: the secret token is its last segment, wherever the rest was
// mounted; a public path is compared as a whole. Empty segments at its start do not count: some
// devices ask for "//path". endpoint is who asks, as far as the transport knows; a grant of another
// endpoint is then not found.
//
// What is returned stays readable until the grant is revoked. by names the protocol of the request.
// The error is errNoGrant, errNotReady, or that of Repository.Open.
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

// failed reports that an image cannot be read.
func (d *Delivery) failed(update string, f follower, image string, err error) {
	if errors.Is(err, os.ErrClosed) {
		return // the grant has ended meanwhile
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

// lost reports whether an error says that an image is damaged or missing, for which nothing but to
// add it again helps.
func lost(err error) bool { return errors.Is(err, ErrDamaged) || errors.Is(err, store.ErrNotFound) }

// mayLead reports whether a path is of the form of those that are granted.
func (d *Delivery) mayLead(path string) bool {
	return isToken(path[strings.LastIndexByte(path, '/')+1:]) || strings.HasPrefix(path, d.cfg.PublicPrefix)
}

// choose returns the update on whose behalf an endpoint may download, "" if it may but there is
// more than one.
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

// sent notes that the device was sent the bytes from start up to end, and reports how far it is. It
// returns false once the download is not granted any more.
func (s *served) sent(start, end int64) bool {
	t := &s.d.table
	t.mu.Lock()
	granted := len(s.download.updates) > 0
	part := s.download.updates[s.update]
	moved := false
	// Bytes after a gap tell nothing, except the first ones: before a restart of the server there
	// were others. A device may begin again, or look at the beginning and then go on where it was.
	if part != nil && (start == 0 && end != part.done || end > part.done && (start <= part.most || part.most == 0)) {
		part.done, part.most, moved = end, max(part.most, end), true
	}
	t.mu.Unlock()
	if moved && s.follower != nil {
		s.follower.served(s.update, end)
	}
	return granted
}

// reached notes that the device was sent a piece that ended at offset, as [served.sent] does where
// the piece's start is not known, only that it is short.
func (s *served) reached(offset int64) {
	start := max(1, offset-maxPiece)
	if offset <= firstBlock {
		start = 0
	}
	s.sent(start, offset)
}

const (
	maxPiece   = 64 << 10 // bounds what CoAP sends at once
	firstBlock = 1024     // bounds a block: what ends within it begins the package
)
