package firmware

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/otago-iot/otago/internal/disk"
	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/store"
)

// Image is a version of firmware in a [Repository].
type Image = store.Image

// Compatible says in Image.Compatible for which devices an image is made.
type Compatible = store.Compatible

// DefaultMaxSize is the default of RepositoryConfig.MaxSize.
const DefaultMaxSize = 1 << 30

// RepositoryConfig is the configuration of a [Repository]. Its zero value works.
type RepositoryConfig struct {
	// MaxSize is how many bytes an image may have. Default: 1 GiB (DefaultMaxSize), which is also
	// the maximum of a transfer by CoAP.
	MaxSize int64
	// Spool is a folder for copies of images whose bytes are not in a local folder. It needs room
	// for each image that is being uploaded or delivered. Default: os.TempDir(). [OpenRepository]
	// needs none.
	Spool string
	// Logger receives what an operator should know, such as the retry of a failed read. Default:
	// nothing is logged.
	Logger *slog.Logger
}

// The errors of a repository, besides those of package store.
var (
	// ErrEmpty: an image without bytes.
	ErrEmpty = errors.New("firmware: image is empty")
	// ErrTooLarge: an image with more bytes than RepositoryConfig.MaxSize.
	ErrTooLarge = errors.New("firmware: image is too large")
	// ErrDamaged: an image's bytes are missing, or differ from those that were added. To add the
	// bytes again repairs the image, also for open packages.
	ErrDamaged = errors.New("firmware: image is damaged")
)

// A Repository stores images: for each a record in a store, and a blob, named by its digest, which
// images with the same bytes share. The blobs are in a folder ([OpenRepository]) or anywhere else
// ([NewRepository]). A [Delivery] serves the images to devices.
//
// A blob becomes durable before the record that refers to it, so every record has its blob, also
// after a crash. A crash may leave a blob without a record; that is harmless, and adding the bytes
// again replaces it.
type Repository struct {
	dir    string // of the blobs, or RepositoryConfig.Spool
	disk   disk.Files
	blobs  Blobs // nil if they are files of dir
	left   left  // calls of blobs
	db     store.Store
	config RepositoryConfig
	log    *slog.Logger

	digests work.Locks // serializes changes of a blob and of the records that refer to it

	mu       sync.Mutex
	asks     []func(ctx context.Context, kind store.Kind, id string) error // before an image is deleted
	packages map[string]*sharedPackage                                     // open ones, by digest
	opened   map[string]*openImage                                         // images with open packages, by id
	verified map[string]fs.FileInfo                                        // by digest: files that this process has verified or written, and their state then
}

// OpenRepository returns a repository of images that has their bytes in files of dir, as
// [OpenFolder] does, and their records in s. Use dir with one store, in one process.
func OpenRepository(dir string, s store.Store, config RepositoryConfig) (*Repository, error) {
	return openRepository(dir, s, config, disk.Files{})
}

func openRepository(dir string, s store.Store, config RepositoryConfig, d disk.Files) (*Repository, error) {
	f, err := openFolder(dir, d)
	if err != nil {
		return nil, err
	}
	return newRepository(f.dir, f.files, nil, s, config)
}

// newRepository returns a repository over blobs or, if blobs is nil, over files of dir.
func newRepository(dir string, d disk.Files, blobs Blobs, s store.Store, config RepositoryConfig) (*Repository, error) {
	switch {
	case s == nil:
		return nil, errors.New("firmware: the store is nil")
	case config.MaxSize < 0:
		return nil, fmt.Errorf("firmware: RepositoryConfig.MaxSize: %d is negative", config.MaxSize)
	case blobs == nil && config.Spool != "":
		return nil, errors.New("firmware: RepositoryConfig.Spool: images in a folder need none")
	case blobs != nil:
		if err := writable(dir); err != nil {
			return nil, fmt.Errorf("firmware: RepositoryConfig.Spool: %w", err)
		}
	}
	if config.MaxSize == 0 {
		config.MaxSize = DefaultMaxSize
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return &Repository{
		dir: dir, disk: d, blobs: blobs, db: s, config: config, log: config.Logger,
		packages: make(map[string]*sharedPackage),
		opened:   make(map[string]*openImage),
		verified: make(map[string]fs.FileInfo),
	}, nil
}

// Get returns an image's record, or store.ErrNotFound.
func (r *Repository) Get(ctx context.Context, id string) (Image, error) { return r.db.Image(ctx, id) }

// List yields the images that the query selects, ordered by id.
func (r *Repository) List(ctx context.Context, q store.ImageQuery) iter.Seq2[Image, error] {
	return r.db.Images(ctx, q)
}

// askBefore has ask called before an image is deleted, which its error prevents.
func (r *Repository) askBefore(ask func(ctx context.Context, kind store.Kind, id string) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asks = append(r.asks, ask)
}

// Delete removes an image, and its blob if no other image has the same bytes. The error matches
// store.ErrNotFound; [ErrKept] if the [ManagerConfig.Keep] of a manager wants to keep it; or, while
// an active update needs the image, store.ErrInUse, as a *store.UpdateError.
func (r *Repository) Delete(ctx context.Context, id string) error {
	img, err := r.db.Image(ctx, id)
	if err != nil {
		return err
	}
	if err := r.mayDelete(ctx, id); err != nil {
		return err
	}
	l, err := r.lock(ctx, img.SHA256)
	if err != nil {
		return err
	}
	defer l.release()
	if _, err := r.db.Commit(ctx, store.DeleteImage{ID: id}); err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.opened, id)
	r.mu.Unlock()
	// The record is gone: a caller that goes now must not leave the bytes behind.
	return r.removeUnused(context.WithoutCancel(ctx), l, img.SHA256)
}

func (r *Repository) mayDelete(ctx context.Context, id string) error {
	r.mu.Lock()
	asks := r.asks
	r.mu.Unlock()
	for _, ask := range asks {
		if err := ask(ctx, store.KindImage, id); err != nil {
			return err
		}
	}
	return nil
}

// CheckDelete returns the error with which [Repository.Delete] would refuse now, and deletes
// nothing.
func (r *Repository) CheckDelete(ctx context.Context, id string) error {
	if _, err := r.db.Image(ctx, id); err != nil {
		return err
	}
	for u, err := range r.db.Updates(ctx, store.UpdateQuery{Image: id, Active: true, Limit: 1}) {
		switch {
		case errors.Is(err, store.ErrShort): // there is none among those that were read
		case err != nil && !errors.Is(err, store.ErrDamaged):
			return err
		default:
			return &store.UpdateError{Err: store.ErrInUse, ID: u.ID}
		}
	}
	return r.mayDelete(ctx, id)
}

// removeUnused removes a digest's blob if no record refers to it. l is the digest's lock.
func (r *Repository) removeUnused(ctx context.Context, l *held, digest string) error {
	used := false
	for _, err := range r.db.Images(ctx, store.ImageQuery{SHA256: digest, Limit: 1}) {
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			return err
		}
		used = true
	}
	if used {
		return nil
	}
	var err error
	if r.blobs != nil {
		err = r.deleteBlob(ctx, l, digest)
	} else {
		r.mu.Lock()
		delete(r.verified, digest)
		r.mu.Unlock()
		err = r.disk.Remove(r.path(digest))
	}
	if err != nil {
		return fmt.Errorf("firmware: removing an image's bytes: %w", err)
	}
	return nil
}

func (r *Repository) path(digest string) string { return filepath.Join(r.dir, digest) }

// imageID derives the id of an image from its name, version and digest.
func imageID(name, version, digest string) string {
	h := sha256.New()
	for _, part := range []string{name, version, digest} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
