package device

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/otago-iot/otago/firmware/bundle"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/disk"
)

// SlotConfig is the configuration of [Slots]. Trust or Inspect must be set: packages are never taken unseen.
type SlotConfig struct {
	// Trust is the key that packages must be signed with: they are bundles, see package bundle. A bundle is refused if its
	// version is not higher than the running one.
	Trust ed25519.PublicKey
	// Name is what bundles must be called. Default: any name.
	Name string
	// Inspect is asked, if there is no Trust, what a complete package is. It reads as much as it needs. Errors without a Result
	// become 6, not a package for this device. Size and Digest are filled in if it leaves them out.
	Inspect func(image io.Reader, size int64) (PackageInfo, error)

	// Version is the version that runs when no slot does: the one that the device was made with.
	Version string
	// Slot is the slot that this program was started from, as [BootTarget].Slot told whoever started it. Default: what Boot returns if it
	// is called here, until then the confirmed one.
	Slot string
	// MaxSize is the most bytes that an image may have. Default: as many as there is room for.
	MaxSize int64
	// MaxStarts is how often a version on trial is started before it is given up. Default: 3.
	MaxStarts int
}

// Slots is an [Installer] over a directory. An image is written into one of two slots, a and b, while the other one, or the
// version that the device was made with, runs:
//
//	slots.json   which slot is confirmed, which is on trial, what is in them
//	device.json  the record of Device
//	lock         held while a Slots is open
//	a, b         the slots: image, and header, what preceded it in its bundle
//	spare        room for the two records when the disk is full
//
// Both .json files are replaced as a whole: written beside, synced, renamed, the directory synced. After a crash at any point
// the directory is what it was before a step or after it. A Slots is safe for several goroutines; one directory is open
// once at a time.
type Slots struct {
	dir    string
	config SlotConfig
	disk   folder
	lock   io.Closer

	mu      sync.Mutex
	state   slotState
	doubt   bool   // what is on the disk may be another state
	running string // the slot that runs
}

var _ Installer = (*Slots)(nil)

// The slots.
const (
	slotFactory = "" // no slot: the version that the device was made with
	slotA       = "a"
	slotB       = "b"
)

// ErrLocked: another Slots has the directory open.
var ErrLocked = errors.New("device: slots are in use")

// OpenSlots opens the slots in a directory, which is made if it is not there. Errors: [ErrLocked].
func OpenSlots(dir string, config SlotConfig) (*Slots, error) {
	return openSlots(dir, config, disk.Files{})
}

func openSlots(dir string, config SlotConfig, d disk.Files) (*Slots, error) {
	switch {
	case len(config.Trust) == 0 && config.Inspect == nil:
		return nil, errors.New("device: slots need a key to trust, or a way to inspect packages")
	case len(config.Trust) != 0 && len(config.Trust) != ed25519.PublicKeySize:
		return nil, errors.New("device: the key to trust is not an Ed25519 public key")
	}
	if config.MaxStarts <= 0 {
		config.MaxStarts = 3
	}
	if err := d.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("device: open slots: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	s := &Slots{dir: dir, config: config, disk: folder{Files: d, spare: filepath.Join(dir, spareFile)}, lock: lock}
	s.disk.keepSpare()
	if err := readJSON(s.path(stateFile), &s.state); err != nil {
		return nil, errors.Join(fmt.Errorf("device: open slots: %w", err), lock.Close())
	}
	if err := s.state.check(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s.running = s.state.Confirmed
	if config.Slot != "" {
		s.running = config.Slot
	}
	return s, nil
}

// Close lets another Slots open the directory.
func (s *Slots) Close() error { return s.lock.Close() }

func (s *Slots) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *Slots) imagePath(slot string) string  { return s.path(slot, "image") }
func (s *Slots) headerPath(slot string) string { return s.path(slot, "header") }

// Version returns the version that runs.
func (s *Slots) Version() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version(s.running)
}

func (s *Slots) version(slot string) string {
	if info, ok := s.state.Slots[slot]; ok && slot != slotFactory {
		return info.Version
	}
	return s.config.Version
}

// policy is what bundles are welcome.
func (s *Slots) policy() bundle.Policy {
	return bundle.Policy{Running: s.version(s.running), Name: s.config.Name, MaxSize: s.config.MaxSize}
}

// LoadState implements [Installer].
func (s *Slots) LoadState(ctx context.Context) ([]byte, error) {
	data, err := os.ReadFile(s.path(deviceFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// SaveState implements [Installer].
func (s *Slots) SaveState(ctx context.Context, record []byte) error {
	return noSpace(s.disk.replaceState(s.path(deviceFile), record))
}

// Status implements [Installer].
func (s *Slots) Status(ctx context.Context) (InstallerStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := InstallerStatus{Install: s.state.Outcome}
	if s.state.Trial != slotFactory {
		status.Install = fsm.InstallUnknown // applied, but the old version was started: it is applied again
		if s.running == s.state.Trial {
			status.Install = fsm.InstallPending
		}
	}
	slot := s.state.free()
	info, verified := s.state.Slots[slot]
	if verified {
		status.Staged, status.Verified = info.Size, true
		return status, nil
	}
	files := []string{s.imagePath(slot)}
	if len(s.config.Trust) > 0 {
		files = []string{s.headerPath(slot), s.imagePath(slot)}
	}
	for _, file := range files {
		stat, err := os.Stat(file)
		if errors.Is(err, os.ErrNotExist) {
			break // without a header no image counts
		}
		if err != nil {
			return status, err
		}
		status.Staged += stat.Size()
	}
	return status, nil
}
