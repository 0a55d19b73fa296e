package firmware

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/otago-iot/otago/internal/disk"
	"github.com/otago-iot/otago/internal/work"
)

// OpenFolder returns Blobs that are files in dir. It makes dir, and the folders above it, if they
// do not exist, and removes the files of unfinished uploads. Only their owner can read the files.
// Only one process may use dir. OpenFolder fails if it cannot create files in dir.
func OpenFolder(dir string) (Blobs, error) { return openFolder(dir, disk.Files{}) }

func openFolder(dir string, files disk.Files) (*folder, error) {
	if dir == "" {
		return nil, errors.New("firmware: the folder of images has no name")
	}
	if err := files.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("firmware: opening the folder of images: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(escapeGlob(dir), uploadPattern))
	if err != nil {
		return nil, fmt.Errorf("firmware: opening the folder of images: %w", err)
	}
	for _, path := range left {
		if err := files.Remove(path); err != nil {
			return nil, fmt.Errorf("firmware: removing an upload that did not end: %w", err)
		}
	}
	if err := writable(dir); err != nil {
		return nil, fmt.Errorf("firmware: opening the folder of images: %w", err)
	}
	return &folder{dir, files}, nil
}

// uploadPattern is the pattern of the names of unfinished files.
const uploadPattern = "upload-*.tmp"

// writable returns an error if no file can be created in dir. It ignores a full disk, which may
// have room later.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, uploadPattern)
	if err != nil {
		if disk.Full(err) {
			return nil
		}
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// escapeGlob escapes a directory's name for Glob. It does nothing where the backslash is the
// separator, and so cannot escape.
func escapeGlob(dir string) string {
	if filepath.Separator == '\\' {
		return dir
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// folder is Blobs in files. A [Repository] uses the files directly.
type folder struct {
	dir   string
	files disk.Files
}

// path returns the file of a digest.
func (f *folder) path(digest string) (string, error) {
	if b, err := hex.DecodeString(digest); err != nil || len(b) != 32 || strings.ToLower(digest) != digest {
		return "", fmt.Errorf("firmware: %.80q is no SHA-256", digest)
	}
	return filepath.Join(f.dir, digest), nil
}

// Put implements Blobs.
func (f *folder) Put(ctx context.Context, digest string, body *io.SectionReader) error {
	path, err := f.path(digest)
	if err != nil {
		return err
	}
	temp, err := f.files.CreateTemp(f.dir, uploadPattern)
	if err != nil {
		return err
	}
	_, err = io.Copy(imageFile{f.files, temp}, work.Reader(ctx, body))
	if err == nil {
		err = f.files.Sync(temp)
	}
	if err = errors.Join(err, temp.Close()); err == nil {
		err = f.files.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, f.files.Remove(temp.Name()))
	}
	return nil
}

// Open implements Blobs.
func (f *folder) Open(ctx context.Context, digest string, offset int64) (io.ReadCloser, error) {
	path, err := f.path(digest)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{work.Reader(ctx, file), file}, nil
}

// Delete implements Blobs.
func (f *folder) Delete(ctx context.Context, digest string) error {
	path, err := f.path(digest)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.files.Remove(path)
}
