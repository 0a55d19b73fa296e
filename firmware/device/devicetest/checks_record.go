package devicetest

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/otago-iot/otago/firmware/device"
)

func nothingStored(h *harness) {
	h.runs(h.config.Version, "the first start")
	if s := h.status(); s != (device.InstallerStatus{}) {
		h.Fatalf("Status reports %+v", s)
	}
	record, err := h.LoadState(h.Context())
	h.ok("LoadState", err)
	if record != nil {
		h.Fatalf("LoadState returned %q, not nil", record)
	}
	h.ok("Discard", h.Discard(h.Context()))
	if _, err := h.Verify(h.Context()); !errors.Is(err, device.ErrUnsupportedPackage) {
		h.Fatalf("Verify without a package returned %v, not ErrUnsupportedPackage", err)
	}
}

// record fails the test unless LoadState returns want.
func (h *harness) record(want []byte, when string) {
	h.Helper()
	got, err := h.LoadState(h.Context())
	h.ok("LoadState", err)
	if !bytes.Equal(got, want) {
		h.Fatalf("%s: LoadState returned %d bytes %.40q, not %d bytes %.40q", when, len(got), got, len(want), want)
	}
}

func recordReplaced(h *harness) {
	for i, n := range []int{20, 700, 1, 300} {
		want := bytes.Repeat([]byte{byte('a' + i)}, n)
		record := bytes.Clone(want)
		h.ok("SaveState", h.SaveState(h.Context(), record))
		clear(record)
		h.record(want, "after SaveState, whose argument then changed")
		got, err := h.LoadState(h.Context())
		h.ok("LoadState", err)
		clear(got)
		h.record(want, "after the slice of LoadState changed")
		h.restart()
		h.record(want, "after a restart")
	}
}

func recordConcurrent(h *harness) {
	p := h.pkg("1.1.0")
	last, stop, ended := []byte(nil), make(chan struct{}), make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			last = fmt.Appendf(nil, "record %d", n)
			if err := h.SaveState(h.Context(), last); err != nil {
				ended <- err
				return
			}
		}
	}()
	func() {
		defer func() {
			close(stop)
			h.ok("SaveState", <-ended)
		}()
		h.stage(p)
		h.verify("1.1.0", p)
	}()
	h.record(last, "after another call")
	h.staged(int64(len(p)), true, "after SaveState beside it")
	h.restart()
	h.record(last, "after a restart")
	h.staged(int64(len(p)), true, "after a restart")
}
