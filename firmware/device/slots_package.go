package device

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/otago-iot/otago/firmware/bundle"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/disk"
)

// reserve is how many bytes OpenPackage leaves free on the disk for everything else.
const reserve = 1 << 20

// OpenPackage implements [Installer]. It fails with [ErrUpdateFailed] while the free slot is on
// trial or still runs.
func (s *Slots) OpenPackage(ctx context.Context, offset, size int64) (PackageWriter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := s.state.free()
	if s.state.Trial != slotFactory || s.running == slot {
		return nil, fmt.Errorf("%w: slot %s is in use", ErrUpdateFailed, slot)
	}
	if err := s.room(slot, offset, size); err != nil {
		return nil, err
	}
	if _, there := s.state.Slots[slot]; there || s.doubt || s.state.Outcome != fsm.InstallUnknown {
		err := s.change(func(next *slotState) {
			delete(next.Slots, slot)
			next.Outcome = fsm.InstallUnknown
		})
		if err != nil {
			return nil, noSpace(err)
		}
	}
	if err := s.disk.MkdirAll(s.path(slot)); err != nil {
		return nil, noSpace(err)
	}
	w := &slotWriter{slots: s, slot: slot}
	if err := w.open(offset); err != nil {
		return nil, errors.Join(noSpace(err), w.Close())
	}
	return w, nil
}

// room checks that the rest of a package fits into a slot, whose content from the offset on will be
// removed.
func (s *Slots) room(slot string, offset, size int64) error {
	if s.config.MaxSize > 0 && size-int64(bundle.MaxEnvelope)-64 > s.config.MaxSize {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrNoStorage, size, s.config.MaxSize)
	}
	free, err := s.disk.free(s.dir)
	if err != nil {
		return nil // the writes will find out
	}
	if stat, err := os.Stat(s.imagePath(slot)); err == nil {
		free += max(stat.Size()-offset, 0)
	}
	if need := max(size-offset, 0); free-reserve < need { // subtract, because a sum could overflow
		return fmt.Errorf("%w: %d bytes needed, and %d to spare; %d free", ErrNoStorage, need, reserve, free)
	}
	return nil
}

// slotWriter writes a package into a slot: the image into one file, and what precedes it in a
// bundle into another, so that the image file can be started.
type slotWriter struct {
	slots    *Slots
	slot     string
	image    *os.File
	verifier *bundle.Verifier // nil if there is no Trust
	replayed bool             // the verifier now passes on new bytes, which go to the file
	header   int64            // size of the header file, which is durable
	size     int64            // size of the image file
	unasked  int64            // bytes written since the last check of the free space
	dirty    bool             // the name of the image file is not durable yet
}

func (w *slotWriter) open(offset int64) (err error) {
	s := w.slots
	if err = s.disk.Op("open " + w.slot); err != nil {
		return err
	}
	if w.image, err = os.OpenFile(s.imagePath(w.slot), os.O_RDWR|os.O_CREATE, 0o700); err != nil {
		return err
	}
	s.disk.Made(disk.Step{Verb: "create", Path: w.image.Name()})
	w.dirty = true
	if len(s.config.Trust) > 0 {
		w.verifier = bundle.NewVerifier(verifiedImage{w}, s.config.Trust, s.policy())
		if offset > 0 {
			header, err := os.ReadFile(s.headerPath(w.slot))
			if err != nil {
				return err
			}
			if _, err := w.verifier.Write(header); err != nil {
				return packageError(err)
			}
			if _, ok := w.verifier.Manifest(); !ok || int64(len(header)) > offset {
				return fmt.Errorf("device: slot %s cannot go on from byte %d", w.slot, offset)
			}
			w.header = int64(len(header))
		} else if err := s.disk.Remove(s.headerPath(w.slot)); err != nil {
			return err
		}
	}
	w.size = offset - w.header
	stat, err := w.image.Stat()
	if err != nil {
		return err
	}
	if stat.Size() < w.size {
		return fmt.Errorf("device: slot %s has %d bytes, cannot go on from %d", w.slot, stat.Size(), w.size)
	}
	if err := s.disk.Truncate(w.image, w.size); err != nil {
		return err
	}
	if w.verifier != nil {
		// The verifier must see the bytes that are stored already.
		if _, err := io.Copy(w.verifier, w.image); err != nil {
			return packageError(err)
		}
	} else if _, err := w.image.Seek(w.size, io.SeekStart); err != nil {
		return err
	}
	w.replayed = true
	return nil
}

// verifiedImage receives the image from the verifier.
type verifiedImage struct{ *slotWriter }

func (v verifiedImage) Write(p []byte) (int, error) {
	if !v.replayed {
		return len(p), nil
	}
	if v.header == 0 {
		if err := v.keepHeader(); err != nil {
			return 0, err
		}
	}
	return v.writeImage(p)
}

// keepHeader stores the header when the verifier has accepted it.
func (w *slotWriter) keepHeader() error {
	header := w.verifier.Header()
	if err := w.slots.disk.Replace(w.slots.headerPath(w.slot), header); err != nil {
		return err
	}
	w.header = int64(len(header))
	return nil
}

func (w *slotWriter) writeImage(p []byte) (int, error) {
	// The announced size may be wrong or missing, and other programs write to the disk too.
	if w.unasked += int64(len(p)); w.unasked >= reserve {
		w.unasked = 0
		if err := w.slots.room(w.slot, w.size, 0); err != nil {
			return 0, err
		}
	}
	limit := w.slots.config.MaxSize
	if limit > 0 && w.size+int64(len(p)) > limit {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrNoStorage, limit)
	}
	n, err := w.slots.disk.Write(w.image, p)
	w.size += int64(n)
	return n, err
}

// Write implements [PackageWriter]. It refuses a bundle as soon as its header is complete.
func (w *slotWriter) Write(p []byte) (n int, err error) {
	if w.verifier == nil {
		n, err = w.writeImage(p)
	} else {
		n, err = w.verifier.Write(p)
	}
	return n, noSpace(packageError(err))
}

// Sync implements [PackageWriter].
func (w *slotWriter) Sync() (int64, error) {
	if w.verifier != nil && w.header == 0 {
		if _, ok := w.verifier.Manifest(); !ok {
			return 0, nil // the header is in memory only
		}
		if err := w.keepHeader(); err != nil { // no byte of the image has arrived
			return 0, noSpace(err)
		}
	}
	if err := w.slots.disk.Sync(w.image); err != nil {
		return 0, noSpace(err)
	}
	if w.dirty {
		if err := w.slots.disk.SyncDir(w.slots.path(w.slot)); err != nil {
			return 0, noSpace(err)
		}
		w.dirty = false
	}
	return w.header + w.size, nil
}

// Close implements [PackageWriter].
func (w *slotWriter) Close() error {
	if w.image == nil {
		return nil
	}
	return w.image.Close()
}

// Discard implements [Installer].
func (s *Slots) Discard(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Trial != slotFactory || s.running == s.state.free() {
		return nil // the image is on trial, or still runs after a rollback
	}
	return s.clear(s.state.free())
}

// clear empties a slot: it removes the record of the slot before the files. The caller holds mu.
func (s *Slots) clear(slot string) error {
	if _, there := s.state.Slots[slot]; there || s.doubt {
		if err := s.change(func(next *slotState) { delete(next.Slots, slot) }); err != nil {
			return err
		}
	}
	return errors.Join(s.disk.Remove(s.headerPath(slot)), s.disk.Remove(s.imagePath(slot)))
}
