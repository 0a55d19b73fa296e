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
	"path/filepath"
	"strings"
	"sync"

	"github.com/otago-iot/otago/internal/disk"
	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/store"
)

// Image is a version of firmware in a [Repository].
type Image = store.Image

// DefaultMaxSize is how many bytes an image may have where RepositoryConfig does not say.
const DefaultMaxSize = 1 << 30

// RepositoryConfig is the configuration of a [Repository]. Its zero value works.
type RepositoryConfig struct {
	// MaxSize is how many bytes an image may have. Default: DefaultMaxSize, which is also the most that CoAP can carry.
	MaxSize int64
}

// The categories of a repository's errors, beside those of package store.
var (
	// ErrEmpty: an image without a byte.
	ErrEmpty = errors.New("firmware: image is empty")
	// ErrTooLarge: an image with more bytes than RepositoryConfig.MaxSize.
	ErrTooLarge = errors.New("firmware: image is too large")
	// ErrDamaged: an image's file is missing, or its bytes are not those that were added. To add them again heals it, also for
	// those who have the image open.
	ErrDamaged = errors.New("firmware: image is damaged on disk")
)

// A Repository keeps images: a record in a store and, named by its digest, a file in a directory, which images with the
// same bytes share. A [Delivery] serves them to devices.
//
// A file becomes durable before the record that refers to it, so that every record has its file, whatever the moment of a
// crash. A file without a record, which a crash may leave, is harmless and is used when its bytes are added again. A
// directory belongs to one store and one process.
type Repository struct {
	dir  string
	disk disk.Files
	db   store.Store
	cfg  RepositoryConfig

	digests work.Locks // orders what creates and removes files and the records that refer to them

	mu       sync.Mutex
	packages map[string]*sharedPackage // open ones, by digest
	verified map[string]fs.FileInfo    // digests whose file was read, or written, by this process, and how it was then
}

// uploadPattern names files that are being written.
const uploadPattern = "upload-*.tmp"

// OpenRepository opens the repository in dir, which it creates if needed, with its records in s. What an upload left that
// did not end is removed.
func OpenRepository(dir string, s store.Store, cfg RepositoryConfig) (*Repository, error) {
	return openRepository(dir, s, cfg, disk.Files{})
}

func openRepository(dir string, s store.Store, cfg RepositoryConfig, d disk.Files) (*Repository, error) {
	if cfg.MaxSize < 0 {
		return nil, fmt.Errorf("firmware: RepositoryConfig.MaxSize is negative: %d", cfg.MaxSize)
	}
	if cfg.MaxSize == 0 {
		cfg.MaxSize = DefaultMaxSize
	}
	if err := d.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("firmware: opening repository: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(escapeGlob(dir), uploadPattern))
	if err != nil {
		return nil, fmt.Errorf("firmware: opening repository: %w", err)
	}
	for _, path := range left {
		if err := d.Remove(path); err != nil {
			return nil, fmt.Errorf("firmware: removing an upload that did not end: %w", err)
		}
	}
	return &Repository{
		dir: dir, disk: d, db: s, cfg: cfg,
		packages: make(map[string]*sharedPackage),
		verified: make(map[string]fs.FileInfo),
	}, nil
}

// escapeGlob makes a directory's name match itself; where a backslash is a separator it cannot escape.
func escapeGlob(dir string) string {
	if filepath.Separator == '\\' {
		return dir
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// Get returns an image's record, or store.ErrNotFound.
func (r *Repository) Get(ctx context.Context, id string) (Image, error) { return r.db.Image(ctx, id) }

// List yields the images that the query selects, ordered by id.
func (r *Repository) List(ctx context.Context, q store.ImageQuery) iter.Seq2[Image, error] {
	return r.db.Images(ctx, q)
}

// Delete removes an image, and its file if no other image has the same bytes. The error is store.ErrNotFound or, as
// a *store.UpdateError with store.ErrInUse while an active update needs the image.
func (r *Repository) Delete(ctx context.Context, id string) error {
	img, err := r.db.Image(ctx, id)
	if err != nil {
		return err
	}
	defer r.digests.Lock(img.SHA256)()
	if _, err := r.db.Commit(ctx, store.DeleteImage{ID: id}); err != nil {
		return err
	}
	return r.removeUnused(ctx, img.SHA256)
}

// removeUnused removes a digest's file if no record refers to it. The digest is locked.
func (r *Repository) removeUnused(ctx context.Context, digest string) error {
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
	r.mu.Lock()
	delete(r.verified, digest)
	r.mu.Unlock()
	if err := r.disk.Remove(r.path(digest)); err != nil {
		return fmt.Errorf("firmware: removing an image's file: %w", err)
	}
	return nil
}

func (r *Repository) path(digest string) string { return filepath.Join(r.dir, digest) }

// imageID names an image by all that makes it what it is, so that the same one has the same id everywhere.
func imageID(name, version, digest string) string {
	h := sha256.New()
	for _, part := range []string{name, version, digest} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
