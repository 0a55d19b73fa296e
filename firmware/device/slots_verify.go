package device

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/otago-iot/otago/firmware/bundle"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/work"
)

// Verify implements [Installer].
func (s *Slots) Verify(ctx context.Context) (PackageInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := s.state.free()
	image, err := os.Open(s.imagePath(slot))
	if errors.Is(err, os.ErrNotExist) {
		return PackageInfo{}, fmt.Errorf("%w: no package is stored", ErrUnsupportedPackage)
	}
	if err != nil {
		return PackageInfo{}, err
	}
	defer image.Close()
	var info PackageInfo
	if len(s.config.Trust) > 0 {
		info, err = s.verifyBundle(ctx, slot, image)
	} else {
		info, err = s.inspect(ctx, image)
	}
	if err != nil {
		return PackageInfo{}, packageError(err)
	}
	err = s.change(func(next *slotState) {
		next.Slots[slot] = slotInfo(info)
	})
	return info, err
}

func (s *Slots) verifyBundle(ctx context.Context, slot string, image io.Reader) (PackageInfo, error) {
	header, err := os.ReadFile(s.headerPath(slot))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return PackageInfo{}, err
	}
	v := bundle.NewVerifier(nil, s.config.Trust, s.policy())
	if _, err = v.Write(header); err == nil {
		_, err = io.Copy(v, work.Reader(ctx, image))
	}
	if err == nil {
		err = v.Close()
	}
	m, _ := v.Manifest()
	return PackageInfo{
		Name: m.Name, Version: m.Version, Size: int64(len(header)) + m.Size, Digest: "sha256:" + hex.EncodeToString(m.SHA256[:]),
	}, err
}

func (s *Slots) inspect(ctx context.Context, image io.ReadSeeker) (PackageInfo, error) {
	digest := sha256.New()
	size, err := io.Copy(digest, work.Reader(ctx, image))
	if err != nil {
		return PackageInfo{}, err
	}
	if _, err := image.Seek(0, io.SeekStart); err != nil {
		return PackageInfo{}, err
	}
	info, err := s.config.Inspect(image, size)
	if err != nil {
		return PackageInfo{}, &ResultError{Result: resultOf(err, fsm.ResultUnsupFirmware), Err: err}
	}
	info.Size = size
	if info.Digest == "" {
		info.Digest = "sha256:" + hex.EncodeToString(digest.Sum(nil))
	}
	return info, nil
}

// packageError adds the Results to errors of package bundle.
func packageError(err error) error {
	switch {
	case errors.Is(err, bundle.ErrIntegrity):
		return &ResultError{Result: fsm.ResultIntegrityFailed, Err: err}
	case errors.Is(err, bundle.ErrFormat), errors.Is(err, bundle.ErrVersion):
		return &ResultError{Result: fsm.ResultUnsupFirmware, Err: err}
	case errors.Is(err, bundle.ErrTooLarge):
		return &ResultError{Result: fsm.ResultNoStorage, Err: err}
	}
	return err
}
