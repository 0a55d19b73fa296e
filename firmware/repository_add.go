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
	"time"

	"github.com/otago-iot/otago/internal/disk"
	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/store"
)

// Add reads all of body and stores it under the name and version of img, with its Compatible; it
// ignores the other fields. It returns the image once it is durable. To add the same image and
// bytes again returns the same image, and writes the bytes again, which repairs a damaged image.
//
// The error is ErrEmpty, ErrTooLarge, store.ErrInvalid if the version is empty or a text has a
// control character or more than 255 bytes, store.ErrVersionTaken if an image with that name and
// version has other bytes or another Compatible, store.ErrNoSpace if the disk is full, or that of
// body. None of these leaves bytes behind. After another error of the store the bytes may remain.
func (r *Repository) Add(ctx context.Context, img Image, body io.Reader) (Image, error) {
	img = Image{ID: "new", Name: img.Name, Version: img.Version, Compatible: img.Compatible, Created: time.Now()}
	if _, err := store.Normalize(store.CreateImage{Image: img}); err != nil {
		return Image{}, err
	}
	temp, err := r.disk.CreateTemp(r.dir, uploadPattern)
	if errors.Is(err, fs.ErrNotExist) { // the directory has been removed
		if err = r.disk.MkdirAll(r.dir); err == nil {
			temp, err = r.disk.CreateTemp(r.dir, uploadPattern)
		}
	}
	if err != nil {
		return Image{}, notStored(err)
	}
	if r.blobs != nil {
		_ = r.disk.Remove(temp.Name()) // so that a crash leaves no file; some systems refuse it
	}
	img.Size, img.SHA256, err = r.receive(ctx, temp, body)
	if r.blobs == nil {
		if closeErr := temp.Close(); err == nil && closeErr != nil {
			err = notStored(closeErr)
		}
	}
	if err == nil {
		img.ID = imageID(img.Name, img.Version, img.SHA256)
		img, err = r.record(ctx, img, temp)
	}
	if r.blobs != nil {
		_ = temp.Close() // all writes are done
		if removeErr := r.disk.Remove(temp.Name()); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
			r.log.Warn("the local copy of an upload could not be removed", "error", removeErr)
		}
		if err != nil {
			return Image{}, err
		}
		return img, nil
	}
	if err != nil {
		return Image{}, errors.Join(err, r.disk.Remove(temp.Name())) // unless it has been renamed
	}
	return img, nil
}

// notStored wraps an error of storing an image. It makes that of a full disk match
// store.ErrNoSpace.
func notStored(err error) error {
	if disk.Full(err) {
		return fmt.Errorf("%w: storing an image: %w", store.ErrNoSpace, err)
	}
	return fmt.Errorf("firmware: storing an image: %w", err)
}

// An imageFile is a writer to a file. It wraps errors of the disk with notStored.
type imageFile struct {
	disk disk.Files
	file *os.File
}

func (f imageFile) Write(p []byte) (int, error) {
	n, err := f.disk.Write(f.file, p)
	if err != nil {
		err = notStored(err)
	}
	return n, err
}

// receive copies body into the file, and syncs it if the file becomes the blob.
func (r *Repository) receive(ctx context.Context, file *os.File, body io.Reader) (size int64, digest string, err error) {
	hash := sha256.New()
	// One byte more than allowed shows that the body is too large.
	size, err = io.Copy(io.MultiWriter(imageFile{r.disk, file}, hash), io.LimitReader(work.Reader(ctx, body), r.config.MaxSize+1))
	switch {
	case err != nil:
		return 0, "", fmt.Errorf("firmware: receiving an image: %w", err)
	case size == 0:
		return 0, "", ErrEmpty
	case size > r.config.MaxSize:
		return 0, "", fmt.Errorf("%w: more than %d bytes", ErrTooLarge, r.config.MaxSize)
	}
	if r.blobs == nil {
		if err := r.disk.Sync(file); err != nil {
			return 0, "", notStored(err)
		}
	}
	return size, hex.EncodeToString(hash.Sum(nil)), nil
}

// record makes a blob of the file and then creates the image's record.
func (r *Repository) record(ctx context.Context, img Image, temp *os.File) (Image, error) {
	l, err := r.lock(ctx, img.SHA256)
	if err != nil {
		return Image{}, err
	}
	defer l.release()
	if r.blobs != nil {
		err = r.putBlob(ctx, l, img.SHA256, temp, img.Size)
	}
	// The rest is short and must not stop half way, so it ignores the end of ctx.
	ctx = context.WithoutCancel(ctx)
	if r.blobs == nil {
		err = r.keep(img.SHA256, temp.Name())
	}
	if err != nil && l.shared() {
		// An abandoned Put still runs. Delete follows when it has returned, as it may yet succeed.
		l.last = func() {
			if err := r.removeUnused(ctx, l, img.SHA256); err != nil {
				r.log.Warn("the bytes of an upload that failed could not be removed", "sha256", img.SHA256, "error", err)
			}
		}
		return Image{}, err
	}
	if err != nil {
		return Image{}, errors.Join(err, r.removeUnused(ctx, l, img.SHA256))
	}
	_, err = r.db.Commit(ctx, store.CreateImage{Image: img})
	switch {
	case err == nil || errors.Is(err, store.ErrExists):
		known, err := r.db.Image(ctx, img.ID)
		if err == nil && known.Compatible != img.Compatible {
			return Image{}, fmt.Errorf("%w, with these bytes, and is compatible with other devices", store.ErrVersionTaken)
		}
		return known, err
	case errors.Is(err, store.ErrVersionTaken), errors.Is(err, store.ErrNoSpace):
		return Image{}, errors.Join(err, r.removeUnused(ctx, l, img.SHA256))
	}
	// After another error the record may exist, so the file stays.
	return Image{}, err
}

// keep renames the file at temp to its digest. It replaces an existing file, as the new one is
// known to be whole. Open packages read the new file from then on.
func (r *Repository) keep(digest, temp string) error {
	err := r.replaceOpen(digest, func() error { return r.disk.Rename(temp, r.path(digest)) })
	if err != nil {
		return notStored(err)
	}
	info, err := os.Stat(r.path(digest))
	if err != nil {
		return notStored(err)
	}
	r.noteGood(digest, info)
	return nil
}
