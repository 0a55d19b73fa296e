package firmware

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
)

// A Package gives access to the bytes of an image. Packages with the same bytes share one open
// file. Its methods may be called from several goroutines.
type Package struct {
	image  Image
	shared *sharedPackage
	closed atomic.Bool
	close  func()
}

// A sharedPackage is an open file and the number of its users.
type sharedPackage struct {
	users int // guarded by Repository.mu

	opening sync.Mutex   // held while the file is checked and opened
	mu      sync.RWMutex // guards file; readers hold it
	file    packageFile  // nil while there is none
}

// A packageFile is an *os.File, or a *mirror of a blob.
type packageFile interface {
	io.ReaderAt
	io.Closer
}

// Open opens an image's package. The caller closes it. If the image is in a folder, Open reads the
// file and checks its digest, unless this process has written or checked the file and it has not
// changed since. Otherwise Open starts to copy the image; [Package.ReadAt] returns the error of the
// copy, and returns the last byte only if the digest is right.
//
// The error matches store.ErrNotFound, or ErrDamaged.
func (r *Repository) Open(ctx context.Context, id string) (*Package, error) {
	img, err := r.known(ctx, id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	o := r.opened[id]
	if o == nil {
		o = &openImage{image: img}
		r.opened[id] = o
	}
	o.packages++
	shared := r.packages[img.SHA256]
	if shared == nil {
		shared = &sharedPackage{}
		r.packages[img.SHA256] = shared
	}
	shared.users++
	r.mu.Unlock()

	p := &Package{image: img, shared: shared}
	p.close = sync.OnceFunc(func() {
		p.closed.Store(true) // a reader that still has p must not go on by the file of others
		r.release(img.SHA256, shared)
		r.mu.Lock()
		defer r.mu.Unlock()
		if o.packages--; o.packages == 0 && r.opened[id] == o {
			delete(r.opened, id)
		}
	})
	if err := r.openShared(img, shared); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// An openImage is an image with open packages. An image that an update needs cannot be deleted, so
// that its record need not be read again for each device of a campaign.
type openImage struct {
	image    Image
	packages int
}

// known returns an image's record.
func (r *Repository) known(ctx context.Context, id string) (Image, error) {
	r.mu.Lock()
	o := r.opened[id]
	r.mu.Unlock()
	if o != nil {
		return o.image, nil
	}
	return r.db.Image(ctx, id)
}

// release removes one user of a shared package. The last one closes the file.
func (r *Repository) release(digest string, shared *sharedPackage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if shared.users--; shared.users > 0 {
		return
	}
	if r.packages[digest] == shared {
		delete(r.packages, digest)
	}
	shared.exchange(nil)
}

// exchange closes the open file, if any, and sets the new one, which may be nil.
func (s *sharedPackage) exchange(file packageFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		_ = s.file.Close() // it was only read
	}
	s.file = file
}

// openShared opens the file of a shared package, unless it is open and unchanged since it was
// verified.
func (r *Repository) openShared(img Image, shared *sharedPackage) error {
	shared.opening.Lock()
	defer shared.opening.Unlock()
	if r.blobs != nil {
		if m := shared.mirror(); m != nil {
			m.revive()
			return nil
		}
		m, err := r.newMirror(img)
		if err != nil {
			return err
		}
		shared.exchange(m)
		return nil
	}
	if shared.file != nil { // safe: it changes only under opening
		if info, err := os.Stat(r.path(img.SHA256)); err == nil && r.good(img.SHA256, info) {
			return nil
		}
	}
	file, err := r.openFile(img)
	if err != nil {
		return err // open packages keep the old one
	}
	shared.exchange(file)
	return nil
}

// replaceOpen calls replace, which replaces the file of a digest, and switches open packages to the
// new file.
func (r *Repository) replaceOpen(digest string, replace func() error) error {
	r.mu.Lock()
	shared := r.packages[digest]
	if shared != nil {
		shared.users++
	}
	r.mu.Unlock()
	if shared == nil {
		return replace()
	}
	defer r.release(digest, shared)
	shared.opening.Lock()
	defer shared.opening.Unlock()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	old := shared.file
	if old != nil && runtime.GOOS == "windows" { // which replaces no file that is open
		_ = old.Close()
		old, shared.file = nil, nil
	}
	err := replace()
	if file, openErr := os.Open(r.path(digest)); openErr == nil {
		if old != nil {
			_ = old.Close()
		}
		shared.file = file
	}
	return err // if the new file cannot be opened, the old one serves
}

// openFile opens an image's file and verifies its bytes.
func (r *Repository) openFile(img Image) (*os.File, error) {
	file, err := os.Open(r.path(img.SHA256))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: image %s: its file is missing", ErrDamaged, img.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("firmware: opening image %s: %w", img.ID, err)
	}
	if err := r.verify(img, file); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

func (r *Repository) verify(img Image, file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("firmware: opening image %s: %w", img.ID, err)
	}
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: image %s: it is not a regular file", ErrDamaged, img.ID)
	case info.Size() != img.Size:
		return fmt.Errorf("%w: image %s has %d bytes, its file %d", ErrDamaged, img.ID, img.Size, info.Size())
	case r.good(img.SHA256, info):
		return nil
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(file, 0, img.Size)); err != nil {
		return fmt.Errorf("firmware: reading image %s: %w", img.ID, err)
	}
	if digest := hex.EncodeToString(hash.Sum(nil)); digest != img.SHA256 {
		return fmt.Errorf("%w: image %s: its file has the digest %s", ErrDamaged, img.ID, digest)
	}
	r.noteGood(img.SHA256, info)
	return nil
}

// good reports whether a file is the one that was verified, and has not changed since.
func (r *Repository) good(digest string, info fs.FileInfo) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.verified[digest]
	return ok && os.SameFile(known, info) && known.Size() == info.Size() && known.ModTime().Equal(info.ModTime())
}

// noteGood records that a file, as info describes it, has the bytes of a digest.
func (r *Repository) noteGood(digest string, info fs.FileInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.verified[digest] = info
}

// Image returns the image's record.
func (p *Package) Image() Image { return p.image }

// Size returns the number of bytes.
func (p *Package) Size() int64 { return p.image.Size }

// ETag returns the entity tag by which a device can resume a download: the first 8 bytes of the
// SHA-256. It is a strong tag: other bytes have another one. The caller may modify the slice.
func (p *Package) ETag() []byte {
	tag, _ := hex.DecodeString(p.image.SHA256[:min(16, len(p.image.SHA256))])
	return tag
}

// ReadAt implements io.ReaderAt. If the image is still being copied, it waits for the bytes.
func (p *Package) ReadAt(b []byte, off int64) (int, error) {
	return p.readAt(context.Background(), b, off)
}

// readAt is ReadAt with a context: it waits until ctx ends.
func (p *Package) readAt(ctx context.Context, b []byte, off int64) (int, error) {
	if p.closed.Load() {
		return 0, fmt.Errorf("firmware: image %s: %w", p.image.ID, os.ErrClosed)
	}
	if m := p.shared.mirror(); m != nil {
		return m.readAt(ctx, b, off) // without the lock, as it may wait
	}
	p.shared.mu.RLock()
	defer p.shared.mu.RUnlock()
	if p.shared.file == nil {
		return 0, fmt.Errorf("firmware: image %s: %w", p.image.ID, os.ErrClosed)
	}
	return p.shared.file.ReadAt(b, off)
}

// mirror returns the package's mirror, or nil.
func (s *sharedPackage) mirror() *mirror {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m, _ := s.file.(*mirror)
	return m
}

// ready reports whether ReadAt never waits.
func (p *Package) ready() bool {
	m := p.shared.mirror()
	return m == nil || m.ready()
}

// revive resumes a copy that has failed.
func (p *Package) revive() {
	if m := p.shared.mirror(); m != nil {
		m.revive()
	}
}

// openWhen opens an image's package, and calls then with it once the first want bytes can be read.
// then closes it.
func (r *Repository) openWhen(ctx context.Context, id string, want int64, then func(*Package, error)) {
	pkg, err := r.Open(ctx, id)
	if err != nil {
		then(nil, err)
		return
	}
	m := pkg.shared.mirror()
	if m == nil {
		then(pkg, nil)
		return
	}
	m.whenThere(want, func(err error) {
		if err != nil {
			_ = pkg.Close()
			pkg = nil
		}
		then(pkg, err)
	})
}

// Close closes the package. To close it again is no error.
func (p *Package) Close() error {
	p.close()
	return nil
}
