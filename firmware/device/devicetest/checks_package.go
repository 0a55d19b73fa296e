package devicetest

import (
	"bytes"
	"errors"

	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/firmware/fsm"
)

func packageTaken(h *harness) {
	p := h.pkg("1.1.0")
	h.stage(p)
	h.staged(int64(len(p)), false, "before Verify")
	h.verify("1.1.0", p)
	h.staged(int64(len(p)), true, "after Verify")
	h.verify("1.1.0", p)
	h.install(fsm.InstallUnknown, "before Apply")
	h.restart()
	h.runs(h.config.Version, "nothing was applied")
	h.staged(int64(len(p)), true, "after a restart")
	h.verify("1.1.0", p)
}

func packageOfUnknownSize(h *harness) {
	p := h.pkg("1.1.0")
	w := h.open(0, -1)
	h.write(w, p)
	h.sync(w, len(p))
	h.ok("Close", w.Close())
	h.verify("1.1.0", p)
}

func bufferReused(h *harness) {
	p := h.pkg("1.1.0")
	w := h.open(0, int64(len(p)))
	buffer := make([]byte, 100)
	for rest := p; len(rest) > 0; {
		n := copy(buffer, rest)
		h.ok("Write", writeAll(w, buffer[:n]))
		if !bytes.Equal(buffer[:n], rest[:n]) {
			h.Fatalf("Write changed its argument")
		}
		clear(buffer)
		rest = rest[n:]
	}
	h.sync(w, len(p))
	h.ok("Close", w.Close())
	h.verify("1.1.0", p)
}

func packageResumed(h *harness) {
	p := h.pkg("1.1.0")
	at := int64(0)
	for _, upTo := range []int{len(p) / 3, len(p) / 2, len(p)} {
		w := h.open(at, int64(len(p)))
		h.write(w, p[at:upTo])
		at = h.sync(w, upTo)
		h.ok("Close", w.Close())
		if s := h.status(); s.Staged < at || s.Verified {
			h.Fatalf("Status reports %d bytes, verified %t, after Sync reported %d", s.Staged, s.Verified, at)
		}
	}
	h.verify("1.1.0", p)
}

func tailForgotten(h *harness) {
	p := h.pkg("1.1.0")
	w := h.open(0, int64(len(p)))
	h.write(w, p[:len(p)/2])
	at := h.sync(w, len(p)/2)
	h.write(w, bytes.Repeat([]byte("?"), len(p)/4))
	h.sync(w, len(p)/2+len(p)/4)
	h.ok("Close", w.Close())
	w = h.open(at, int64(len(p)))
	h.write(w, p[at:])
	h.sync(w, len(p))
	h.ok("Close", w.Close())
	h.verify("1.1.0", p)
}

func packageResumedAfterCrash(h *harness) {
	p := h.pkg("1.1.0")
	at := int64(0)
	for _, upTo := range []int{len(p) / 3, len(p) / 2, len(p)} {
		w := h.open(at, int64(len(p)))
		h.write(w, p[at:upTo])
		at = h.sync(w, upTo)
		more := min(upTo+3*pieceSize, len(p))
		h.write(w, p[upTo:more]) // and no Sync
		h.restart()
		h.runs(h.config.Version, "after a crash of a transfer")
		if s := h.status(); s.Staged < at || s.Staged > int64(more) || s.Verified {
			h.Fatalf("after a crash Status reports %d bytes, verified %t; %d were written, Sync reported %d", s.Staged, s.Verified, more, at)
		}
	}
	w := h.open(at, int64(len(p)))
	h.write(w, p[at:])
	h.sync(w, len(p))
	h.ok("Close", w.Close())
	h.verify("1.1.0", p)
}

func offsetBeyond(h *harness) {
	p := h.pkg("1.1.0")
	w := h.open(0, int64(len(p)))
	h.write(w, p[:len(p)/2])
	h.sync(w, len(p)/2)
	h.ok("Close", w.Close())
	beyond := int64(len(p)/2 + 1)
	if w, err := h.OpenPackage(h.Context(), beyond, int64(len(p))); err == nil {
		w.Close()
		h.Fatalf("OpenPackage goes on from byte %d, and %d are stored", beyond, beyond-1)
	}
	h.stage(p)
	h.verify("1.1.0", p)
}

func packageStartsOver(h *harness) {
	p := h.pkg("1.1.0")
	h.stage(p)
	h.verify("1.1.0", p)
	h.ok("Close", h.open(0, int64(len(p))).Close())
	h.staged(0, false, "after OpenPackage from byte 0")
	h.restart()
	h.staged(0, false, "after a restart")
	p = h.pkg("1.2.0")
	h.stage(p)
	h.verify("1.2.0", p)
}

func damagedRefused(h *harness) {
	good := h.pkg("1.1.0")
	flip := func(at int) []byte {
		p := bytes.Clone(good)
		p[at] ^= 0x20
		return p
	}
	for name, p := range map[string][]byte{
		"with a wrong first byte":        flip(0),
		"with a wrong byte":              flip(len(good) / 2),
		"with a wrong last byte":         flip(len(good) - 1),
		"without its last byte":          good[:len(good)-1],
		"with a byte behind it":          append(bytes.Clone(good), 'x'),
		"of zeros":                       make([]byte, len(good)),
		"that ends after its first byte": good[:1],
	} {
		err := h.take(p)
		if !errors.Is(err, device.ErrIntegrity) && !errors.Is(err, device.ErrUnsupportedPackage) {
			h.Fatalf("a package %s: the error is %v, not ErrIntegrity or ErrUnsupportedPackage", name, err)
		}
		if h.status().Verified {
			h.Fatalf("a package %s counts as verified", name)
		}
		h.cannotApply("a package " + name)
	}
	h.restart()
	h.runs(h.config.Version, "nothing good was stored")
	h.stage(good)
	h.verify("1.1.0", good)
}

// take takes a package and verifies it. It returns the first error of all of that.
func (h *harness) take(p []byte) error {
	h.Helper()
	w := h.open(0, int64(len(p)))
	err := writeAll(w, p)
	if err == nil {
		_, err = w.Sync()
	}
	h.ok("Close", w.Close())
	if err == nil {
		_, err = h.Verify(h.Context())
	}
	return err
}

func (h *harness) cannotApply(what string) {
	h.Helper()
	if _, err := h.Apply(h.Context()); err == nil {
		h.Fatalf("%s is applied", what)
	}
}

func unverifiedRefused(h *harness) {
	h.cannotApply("no package")
	h.stage(h.pkg("1.1.0"))
	h.cannotApply("a package that was not verified")
	h.restart()
	h.runs(h.config.Version, "Apply failed")
	h.install(fsm.InstallUnknown, "Apply failed")
}

func packageDiscarded(h *harness) {
	p := h.pkg("1.1.0")
	for _, upTo := range []int{len(p) / 2, len(p)} {
		w := h.open(0, int64(len(p)))
		h.write(w, p[:upTo])
		h.sync(w, upTo)
		h.ok("Close", w.Close())
		if upTo == len(p) {
			h.verify("1.1.0", p)
		}
		h.ok("Discard", h.Discard(h.Context()))
		h.staged(0, false, "after Discard")
		h.cannotApply("a package that was discarded")
		h.ok("Discard again", h.Discard(h.Context()))
		h.restart()
		h.staged(0, false, "after Discard and a restart")
	}
	h.stage(p)
	h.verify("1.1.0", p)
}

func storageFull(h *harness) {
	large := h.config.TooLarge
	if large == 0 {
		h.Skip("InstallerConfig.TooLarge is not set")
	}
	if w, err := h.OpenPackage(h.Context(), 0, large); !errors.Is(err, device.ErrNoStorage) {
		if err == nil {
			w.Close()
		}
		h.Fatalf("OpenPackage for %d bytes returned %v, not ErrNoStorage", large, err)
	}
	p := h.config.Package(h.TB, "1.1.0", int(large))
	w := h.open(0, -1)
	err := writeAll(w, p)
	if err == nil {
		_, err = w.Sync()
	}
	h.ok("Close", w.Close())
	if !errors.Is(err, device.ErrNoStorage) {
		h.Fatalf("taking %d bytes of a package of unknown size returned %v, not ErrNoStorage", len(p), err)
	}
	h.ok("SaveState", h.SaveState(h.Context(), []byte("full")))
	h.record([]byte("full"), "after the storage was full")
	p = h.pkg("1.2.0")
	h.stage(p)
	h.verify("1.2.0", p)
}
