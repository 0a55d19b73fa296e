package firmware

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"github.com/otago-iot/otago/store"
)

// A grant lets one path of a download lead to an image, on behalf of an update, until that ends. What the path ends with
// is a secret token or, for a profile that needs one, a public name; of both only the hash is known here.
type grant struct {
	hash     string // SHA-256, in hex, as newToken or publicPath returned it
	update   string
	endpoint string
	image    string
}

var (
	// errNotReady: the grants of updates that were active before the start are not all known yet.
	errNotReady = errors.New("firmware: downloads are not ready yet")
	// errNoGrant: the path leads nowhere.
	errNoGrant = errors.New("firmware: no such download")
	// errPathTaken: the public path leads to another image.
	errPathTaken = errors.New("firmware: public path leads to another image")
)

const (
	tokenBytes = 16 // 128 random bits
	tokenChars = 22 // of them in base64url, without padding
	// publicForms counts the forms of public paths; the last one is never taken.
	publicForms = 3
	// maxURI bounds a Package URI in bytes: devices are known that keep no more.
	maxURI = 127
)

// newToken returns a new token, and the hash by which it is granted.
func newToken() (token, hash string) {
	var b [tokenBytes]byte
	_, _ = rand.Read(b[:]) // never fails
	token = base64.RawURLEncoding.EncodeToString(b[:])
	return token, hashOf(token)
}

func hashOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

// isToken reports whether a path's last segment may be a token.
func isToken(s string) bool {
	return len(s) == tokenChars && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// tokenURI appends a token to the base of Package URIs, which is absolute, or only a path that begins with a slash.
func tokenURI(base, token string) (string, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil:
		return "", fmt.Errorf("firmware: base of package URIs: %w", err)
	case u.Scheme == "" && !strings.HasPrefix(base, "/"), u.Scheme != "" && u.Host == "":
		return "", fmt.Errorf("firmware: base %q of package URIs is neither absolute nor a path", base)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", errors.New("firmware: base of package URIs has user info, a query or a fragment")
	}
	uri := strings.TrimSuffix(base, "/") + "/" + token
	if len(uri) > maxURI {
		return "", fmt.Errorf("firmware: package URI has %d bytes, more than the %d that devices keep", len(uri), maxURI)
	}
	return uri, nil
}

// publicPath returns the path under which an image may be public, and the hash by which it is granted. Images of other
// names may have the same version: the n-th form says more than the one before.
func (r *Repository) publicPath(img Image, n int) (path, hash string) {
	name := img.Version
	switch n {
	case 1:
		name = img.Name + "-" + img.Version
	case 2:
		name = img.ID
	}
	path = r.cfg.PublicPrefix + plain(name) + ".bin"
	if len(path) > maxURI && n < 2 {
		return r.publicPath(img, 2)
	}
	return path, hashOf(path)
}

// plain makes a name that needs no escape in a path: clients are known that escape nothing.
func plain(name string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '.', c == '-', c == '_':
			return c
		}
		return '_'
	}, name)
}

// grants is the table of what can be downloaded, the same for all transports.
type grants struct {
	mu       sync.Mutex
	ready    bool
	byHash   map[string]*download
	byUpdate map[string][]string // update -> hashes
	watch    imageWatch
}

// An imageWatch follows the grants of an update. Repository calls its functions often and from several goroutines; each of
// them is set.
type imageWatch struct {
	// served: the device was sent the package from its start up to done.
	served func(update string, done int64)
	// asked: a request for the package came, by some protocol.
	asked func(update, by string)
	// fault: the package cannot be handed out.
	fault func(update string, err error)
}

func (g *grants) init() {
	g.byHash, g.byUpdate = make(map[string]*download), make(map[string][]string)
	g.watch = imageWatch{func(string, int64) {}, func(string, string) {}, func(string, error) {}}
}

// A download is one path and the updates that it serves: one if it is secret.
type download struct {
	image   string
	updates map[string]*share // by id

	opening sync.Mutex // guards what follows
	pkg     *Package   // nil until somebody downloads
	ended   bool
	asked   map[string]bool // updates on whose behalf somebody has asked
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

// A share is one update's part of a download.
type share struct {
	endpoint string
	done     int64 // bytes from the start that the device was sent since it last began there
	most     int64 // the most that done has been
}

// allow adds a grant. It returns errPathTaken if a public path leads to another image, and changes nothing then.
func (r *Repository) allow(g grant) error {
	t := &r.table
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.byHash[g.hash]
	if d == nil {
		d = &download{image: g.image, updates: make(map[string]*share)}
		t.byHash[g.hash] = d
	}
	if d.image != g.image {
		return errPathTaken
	}
	if d.updates[g.update] == nil {
		d.updates[g.update] = &share{endpoint: g.endpoint}
		t.byUpdate[g.update] = append(t.byUpdate[g.update], g.hash)
	}
	return nil
}

// revoke ends all grants of an update. Downloads under way break off, unless another update has them too.
func (r *Repository) revoke(update string) {
	t := &r.table
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, hash := range t.byUpdate[update] {
		d := t.byHash[hash]
		delete(d.updates, update)
		if len(d.updates) == 0 {
			delete(t.byHash, hash)
			go d.end() // which may have to wait for one that opens it
		}
	}
	delete(t.byUpdate, update)
}

// ready says that the grants of all updates that were active at the start are known.
func (r *Repository) ready() {
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	r.table.ready = true
}

// watch sets the functions that follow the grants.
func (r *Repository) watch(w imageWatch) {
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	r.table.watch = w
}

// open returns the download's package, which the first call opens.
func (d *download) open(ctx context.Context, r *Repository) (*Package, error) {
	d.opening.Lock()
	defer d.opening.Unlock()
	if d.ended {
		return nil, errNoGrant
	}
	if d.pkg == nil {
		pkg, err := r.Open(context.WithoutCancel(ctx), d.image)
		if err != nil {
			return nil, err
		}
		d.pkg = pkg
	}
	return d.pkg, nil
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

// publish grants a public path to an image and returns it, and the hash by which it can be granted again.
func (r *Repository) publish(g grant, img Image) (path, hash string, err error) {
	for n := range publicForms {
		path, g.hash = r.publicPath(img, n)
		if err = r.allow(g); !errors.Is(err, errPathTaken) {
			return path, g.hash, err
		}
	}
	return "", "", err
}

// A served is a package on its way to a device, whatever the transport.
type served struct {
	pkg  *Package
	size int64
	etag []byte

	r        *Repository
	download *download
	update   string // "" if it is not known for which one
}

// ReadAt implements io.ReaderAt, for the whole package. That it fails is nothing that the device can tell us.
func (s *served) ReadAt(b []byte, off int64) (int, error) {
	n, err := s.pkg.ReadAt(b, off)
	if want := min(int64(len(b)), s.size-off); int64(n) < want && s.update != "" {
		s.r.watching().fault(s.update, fmt.Errorf("%w: %d of %d bytes at %d could be read", ErrDamaged, n, want, off))
	}
	return n, err
}

func (r *Repository) watching() imageWatch {
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	return r.table.watch
}

// find returns what a path leads to: the secret token is its last segment, wherever the rest was mounted; a public path is
// compared as a whole. Empty segments at its start do not count: devices are known that ask for "//path". endpoint is
// who asks, as far as the transport knows; a grant of another endpoint is then not found.
//
// What is returned stays readable until the grant is revoked. by names the protocol that is asked by. The error is
// errNoGrant, errNotReady, or that of Open.
func (r *Repository) find(ctx context.Context, path, endpoint, by string) (*served, error) {
	path = "/" + strings.TrimLeft(path, "/")
	t := &r.table
	t.mu.Lock()
	d := t.byHash[hashOf(path)]
	if last := path[strings.LastIndexByte(path, '/')+1:]; d == nil && isToken(last) {
		d = t.byHash[hashOf(last)]
	}
	update, ok := "", false
	if d != nil {
		update, ok = d.choose(endpoint)
	}
	ready, watch := t.ready, t.watch
	t.mu.Unlock()
	switch {
	case !ok && !ready && r.mayLead(path):
		return nil, errNotReady
	case !ok:
		return nil, errNoGrant
	}
	if update != "" && d.first(update) {
		watch.asked(update, by)
	}
	pkg, err := d.open(ctx, r)
	if err != nil {
		if !errors.Is(err, errNoGrant) {
			r.cfg.Logger.Error("an image that a device asks for cannot be read", "image", d.image, "update", update, "error", err)
		}
		if update != "" && (errors.Is(err, ErrDamaged) || errors.Is(err, store.ErrNotFound)) {
			watch.fault(update, err)
		}
		return nil, err
	}
	return &served{pkg: pkg, size: pkg.Size(), etag: pkg.ETag(), r: r, download: d, update: update}, nil
}

// mayLead reports whether a path is of the form of those that are granted.
func (r *Repository) mayLead(path string) bool {
	return isToken(path[strings.LastIndexByte(path, '/')+1:]) || strings.HasPrefix(path, r.cfg.PublicPrefix)
}

// choose returns the update on whose behalf an endpoint may download, "" if it may but there is more than one.
func (d *download) choose(endpoint string) (update string, ok bool) {
	for id, s := range d.updates {
		if endpoint == "" || s.endpoint == endpoint {
			if ok {
				return "", true
			}
			update, ok = id, true
		}
	}
	return update, ok
}

// sent notes that the device was sent the bytes from start up to end, and tells the manager how far it is. It reports
// false once the download is not granted any more.
func (s *served) sent(start, end int64) bool {
	t := &s.r.table
	t.mu.Lock()
	granted := len(s.download.updates) > 0
	part := s.download.updates[s.update]
	told := false
	// Bytes after a gap tell nothing, except the first ones: before a restart of the server there were others. A device
	// may begin again, or look at the beginning and then go on where it was.
	if part != nil && (start == 0 && end != part.done || end > part.done && (start <= part.most || part.most == 0)) {
		part.done, part.most, told = end, max(part.most, end), true
	}
	watch := t.watch
	t.mu.Unlock()
	if told {
		watch.served(s.update, end)
	}
	return granted
}

// reached notes that the device was sent a piece that ended at offset, as [served.sent] does where the piece's start is not
// known, only that it is short.
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
