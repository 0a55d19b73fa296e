package device

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/otago-iot/otago/firmware/bundle"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/disk"
)

// SlotConfig is the configuration of [Slots]. Either Trust or Inspect must be set, because packages
// are never installed unchecked.
type SlotConfig struct {
	// Trust is the key with which packages must be signed. They are then bundles: see package
	// bundle. A bundle whose version is not higher than the running one is refused.
	Trust ed25519.PublicKey
	// Name is the name that bundles must have. It needs Trust. Default: every name is accepted.
	Name string
	// Inspect checks a complete package when there is no Trust, and returns what it is; Size is
	// filled in, and so is Digest if it is empty. It may read as much of image as it needs. An
	// error without a Result ([ResultError]) becomes Result 6 (unsupported package).
	Inspect func(image io.Reader, size int64) (PackageInfo, error)

	// Version is the version of the program that the device was made with, or, if [Slots.Exec]
	// starts programs, that of the program that opens the slots. With Trust it must be a version
	// that bundle.CheckVersion accepts. Default: "", and bundles of every version are accepted
	// until one of them runs.
	Version string
	// Slot is [BootTarget].Slot of the running program, if a boot loader called [Slots.Boot] in
	// another process. Default: the slot that Boot or Exec returns, and the confirmed one before
	// that call.
	Slot string
	// MaxSize is the size of the largest image in bytes. Default: the free space is the limit.
	MaxSize int64
	// MaxStarts is how often a version on trial is started, without a Confirm, before it is rolled
	// back. Default: 3.
	MaxStarts int
	// Logger receives why [Slots.Exec] could not start a version on trial. Default: no logs.
	Logger *slog.Logger
}

// check returns what is wrong with the configuration.
func (c SlotConfig) check() error {
	switch {
	case len(c.Trust) == 0 && c.Inspect == nil:
		return wrong("Trust", "not set, and Inspect is not set either")
	case len(c.Trust) != 0 && c.Inspect != nil:
		return wrong("Trust", "Inspect is set, too")
	case len(c.Trust) != 0 && len(c.Trust) != ed25519.PublicKeySize:
		return wrong("Trust", "has %d bytes, an Ed25519 public key has %d", len(c.Trust), ed25519.PublicKeySize)
	case c.Name != "" && len(c.Trust) == 0:
		return wrong("Name", "needs Trust, which is not set")
	case !knownSlot(c.Slot):
		return wrong("Slot", "%q is not \"a\", \"b\" or empty", c.Slot)
	case c.MaxSize < 0:
		return wrong("MaxSize", "%d is negative", c.MaxSize)
	case c.MaxStarts < 0:
		return wrong("MaxStarts", "%d is negative", c.MaxStarts)
	}
	if c.Version != "" && len(c.Trust) > 0 {
		if err := bundle.CheckVersion(c.Version); err != nil {
			return wrong("Version", "%w", err)
		}
	}
	return nil
}

// Slots is an [Installer] over a directory. It writes an image into one of two slots, a and b,
// while the program in the other slot, or the one that the device was made with, runs:
//
//	slots.json   which slot is confirmed, which is on trial, and what is in them
//	device.json  the record of Device
//	lock         locked while a Slots is open
//	a, b         the slots: image, and header, which preceded it in its bundle
//	spare        space for the two records on a full disk
//
// Both .json files are replaced as a whole, so that a crash or a power failure leaves the directory
// as it was before a step or as it is after it. A directory can be open once at a time. The methods
// of Slots are safe for several goroutines.
type Slots struct {
	dir    string
	config SlotConfig
	disk   folder
	lock   io.Closer

	mu      sync.Mutex
	state   slotState
	doubt   bool   // the disk may hold another state than this one
	running string // the slot that runs
	execed  bool   // Exec was called
}

var _ Installer = (*Slots)(nil)

// The slots.
const (
	slotFactory = "" // no slot: the program that the device was made with
	slotA       = "a"
	slotB       = "b"
)

func knownSlot(slot string) bool { return slot == slotFactory || slot == slotA || slot == slotB }

// ErrLocked means that another Slots, perhaps of another process, has the directory open.
var ErrLocked = errors.New("device: the slots are in use")

// OpenSlots opens the slots in a directory, which it creates if necessary. It fails if the
// configuration is wrong, if the directory is damaged, locked ([ErrLocked]) or cannot be written,
// but not if the disk is full.
func OpenSlots(dir string, config SlotConfig) (*Slots, error) {
	return openSlots(dir, config, disk.Files{})
}

func openSlots(dir string, config SlotConfig, d disk.Files) (*Slots, error) {
	if dir == "" {
		return nil, errors.New("device: the directory of the slots is not set")
	}
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("device: SlotConfig.%w", err)
	}
	config.MaxStarts = cmp.Or(config.MaxStarts, 3)
	config.Logger = cmp.Or(config.Logger, slog.New(slog.DiscardHandler))
	if err := d.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("device: the directory of the slots: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	s := &Slots{dir: dir, config: config, disk: folder{Files: d, spare: filepath.Join(dir, spareFile)}, lock: lock}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s.running = s.state.Confirmed
	if config.Slot != "" {
		s.running = config.Slot
	}
	return s, nil
}

// load reads the state, and finds out whether it could be written.
func (s *Slots) load() error {
	if err := readJSON(s.path(stateFile), &s.state); err != nil {
		return fmt.Errorf("device: read the state of the slots: %w", err)
	}
	if err := s.state.check(); err != nil {
		return err
	}
	probe := s.path(stateFile + ".new") // the name under which a new state is written
	f, err := os.OpenFile(probe, os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		err = errors.Join(f.Close(), os.Remove(probe))
	}
	if err != nil && !disk.Full(err) {
		return fmt.Errorf("device: the directory of the slots cannot be written: %w", err)
	}
	s.disk.keepSpare()
	return nil
}

// Close releases the directory for another Slots.
func (s *Slots) Close() error { return s.lock.Close() }

func (s *Slots) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *Slots) imagePath(slot string) string  { return s.path(slot, "image") }
func (s *Slots) headerPath(slot string) string { return s.path(slot, "header") }

// Version returns the version of the running program: that of the bundle in its slot, or
// [SlotConfig].Version.
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

// policy returns the acceptance rules for bundles.
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
		status.Install = fsm.InstallUnknown // the device applies the package again
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
			break // an image without its header is worthless
		}
		if err != nil {
			return status, err
		}
		status.Staged += stat.Size()
	}
	return status, nil
}
