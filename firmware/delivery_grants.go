package firmware

import (
	"context"
	"errors"
	"sync"
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
