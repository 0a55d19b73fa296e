package device

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// execVariable is the environment variable by which Exec passes an execMark to the program that it
// starts.
const execVariable = "OTAGO_SLOTS"

// An execMark is the content of execVariable. PID keeps a child process, which inherits the
// environment, from taking the mark for its own.
type execMark struct {
	PID     int
	Dir     string // of the slots
	Slot    string
	Factory string // path of the program that the device was made with
}

// marked returns the mark of this process, or an empty one. It removes the variable when it first
// reads it.
var marked = sync.OnceValue(func() (m execMark) {
	text := os.Getenv(execVariable)
	_ = os.Unsetenv(execVariable)
	if json.Unmarshal([]byte(text), &m) != nil || m.PID != os.Getpid() || !knownSlot(m.Slot) {
		return execMark{}
	}
	return m
})

// Exec replaces the running program by the one that is due, as [Slots.Boot] does on a device with a
// boot loader. The program is the image of a slot, or the one that the device was made with, and
// keeps the arguments, the environment and the process id. Exec returns only in two cases:
//
//   - It returns nil when the running program is the due one, on the first call for these slots.
//     Call it at the start of a program, after [OpenSlots].
//   - It returns an error when a confirmed program cannot be started. One on trial that cannot be
//     started, because it is no program for this system, is rolled back, and the one before is
//     started.
//
// Later calls always start a program: call Exec again when lwm2m.Client.Run returns [ErrRestart]. A
// version on trial that crashes is started [SlotConfig].MaxStarts times before it is rolled back,
// which takes a service manager that starts the device's program again after a crash. Exec is for
// Unix; on Windows it fails with errors.ErrUnsupported if another program is due.
func (s *Slots) Exec() error {
	dir, err := filepath.Abs(s.dir)
	if err != nil {
		return fmt.Errorf("device: exec: %w", err)
	}
	mark := marked()
	ours := mark.Dir == dir
	if !ours {
		if mark.Factory, err = os.Executable(); err != nil {
			return fmt.Errorf("device: exec: %w", err)
		}
	}
	first := s.firstExec()
	if first && ours && s.runs(mark.Slot) {
		return nil
	}
	s.mu.Lock()
	running := s.running
	s.mu.Unlock()
	for {
		boot, err := s.Boot()
		if err != nil {
			return err
		}
		if first && !ours && boot.Slot == slotFactory {
			return nil
		}
		next := execMark{PID: os.Getpid(), Dir: dir, Slot: boot.Slot, Factory: mark.Factory}
		err = execProgram(cmp.Or(boot.Image, mark.Factory), next)
		s.mu.Lock()
		s.running = running // still; Boot has noted another
		s.mu.Unlock()
		if !boot.Trial || errors.Is(err, errors.ErrUnsupported) {
			return fmt.Errorf("device: start version %q: %w", boot.Version, err)
		}
		s.config.Logger.Error("new version cannot be started", "version", boot.Version, "error", err)
		if err := s.Rollback(context.Background()); err != nil {
			return err
		}
	}
}

// firstExec reports whether Exec is called for the first time.
func (s *Slots) firstExec() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.execed
	s.execed = true
	return first
}

// runs notes that a slot runs, if that is still one to be run.
func (s *Slots) runs(slot string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slot != s.state.Confirmed && (slot == slotFactory || slot != s.state.Trial) {
		return false
	}
	s.running = slot
	return true
}

// execProgram replaces this process. It returns only if that fails.
func execProgram(path string, mark execMark) error {
	text, err := json.Marshal(mark)
	if err != nil {
		return err
	}
	env := append(os.Environ(), execVariable+"="+string(text))
	return replaceProcess(path, append([]string{path}, os.Args[1:]...), env)
}
