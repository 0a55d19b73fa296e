package firmware

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/otago-iot/otago/store"
)

// Add reads an image's bytes to their end and stores them under the name and version of img, whose other fields are
// ignored. It returns the image once it is durable. The same name, version and bytes again return the same image.
//
// The error is ErrEmpty, ErrTooBig, store.ErrInvalid if the version is empty or name or version have a control character or
// more than 255 bytes, store.ErrVersionTaken if other bytes have that name and version, or that of body. Nothing is then
// left of the bytes.
func (r *Repository) Add(ctx context.Context, img Image, body io.Reader) (Image, error) {
	img = Image{ID: "new", Name: img.Name, Version: img.Version, Created: time.Now()}
	if _, err := store.Normalize(store.CreateImage{Image: img}); err != nil {
		return Image{}, err
	}
	temp, err := os.CreateTemp(r.dir, uploadPattern)
	if err != nil {
		return Image{}, fmt.Errorf("firmware: storing an image: %w", err)
	}
	defer os.Remove(temp.Name()) // in vain once it has its own name
	img.Size, img.SHA256, err = r.receive(ctx, temp, body)
	if closeErr := temp.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("firmware: storing an image: %w", closeErr)
	}
	if err != nil {
		return Image{}, err
	}
	img.ID = imageID(img.Name, img.Version, img.SHA256)
	return r.record(ctx, img, temp.Name())
}

// receive copies body into the file, durably.
func (r *Repository) receive(ctx context.Context, file *os.File, body io.Reader) (size int64, digest string, err error) {
	hash := sha256.New()
	// One byte more than allowed tells too much from just enough.
	size, err = io.Copy(io.MultiWriter(file, hash), io.LimitReader(ctxReader{ctx, body}, r.cfg.MaxSize+1))
	switch {
	case err != nil:
		return 0, "", fmt.Errorf("firmware: receiving an image: %w", err)
	case size == 0:
		return 0, "", ErrEmpty
	case size > r.cfg.MaxSize:
		return 0, "", fmt.Errorf("%w: more than %d bytes", ErrTooBig, r.cfg.MaxSize)
	}
	if err := file.Sync(); err != nil {
		return 0, "", fmt.Errorf("firmware: storing an image: %w", err)
	}
	return size, hex.EncodeToString(hash.Sum(nil)), nil
}

// record gives the file at temp its name and then creates the image's record.
func (r *Repository) record(ctx context.Context, img Image, temp string) (Image, error) {
	defer r.digests.lock(img.SHA256)()
	if err := r.keep(img.SHA256, temp); err != nil {
		return Image{}, err
	}
	// From here on it is short, and its end must be known, so ctx has no say any more.
	ctx = context.WithoutCancel(ctx)
	_, err := r.db.Commit(ctx, store.CreateImage{Image: img})
	switch {
	case err == nil || errors.Is(err, store.ErrExists):
		return r.db.Image(ctx, img.ID)
	case errors.Is(err, store.ErrVersionTaken):
		return Image{}, errors.Join(err, r.removeUnused(ctx, img.SHA256))
	}
	// After another error the record may be there all the same, so the file stays.
	return Image{}, err
}

// keep renames the file at temp to its digest, unless that file is there and known to be good.
func (r *Repository) keep(digest, temp string) error {
	if info, err := os.Stat(r.path(digest)); err == nil && r.good(digest, info) {
		return nil
	}
	if err := os.Rename(temp, r.path(digest)); err != nil {
		return fmt.Errorf("firmware: storing an image: %w", err)
	}
	if err := syncDir(filepath.Dir(temp)); err != nil {
		return fmt.Errorf("firmware: storing an image: %w", err)
	}
	if info, err := os.Stat(r.path(digest)); err == nil {
		r.noteGood(digest, info)
	}
	return nil
}

// syncDir makes a directory's entries durable, where the system can.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// A ctxReader ends when its context does, between two reads.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
