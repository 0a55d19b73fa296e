package firmwaretest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"github.com/otago-iot/otago/firmware/fsm"
)

// FlownexusSample returns the script of the sample firmware of flownexus
// (simulation/lwm2m_client/src/firmware_update.c, a Zephyr client). host is the address that its
// firmware fixes, such as "192.0.2.1:8000". The device
//   - appends the Package URI to "GET /", so that "/binaries/x.bin" is requested as
//     "GET //binaries/x.bin HTTP/1.0", and an absolute URI leads nowhere;
//   - downloads within the Write of the URI, in every State, also for an empty URI: see
//     [Habits.DownloadsInWrite];
//   - takes any answer for firmware, whatever its status and its length, and throws it away;
//   - reports success as soon as it is sent Execute, does not restart, and runs "1.0" for ever;
//   - keeps Result 1 through its next download, and shows Result 8 when it is cancelled.
//
// A manager updates it with the profile "fixed-host" and Verify: fsm.VerifyResult.
func FlownexusSample(host string) Script {
	return Script{
		Version: "1.0",
		Pull:    func(ctx context.Context, uri string) fsm.Result { return fetchRaw(ctx, host, uri) },
		Install: Install{Result: fsm.ResultSuccess, NoReboot: true},
		Habits:  Habits{DownloadsInWrite: true, CancelFails: true},
	}
}

// fetchRaw downloads as the sample firmware does: it skips the header, and the body ends with the
// connection.
func fetchRaw(ctx context.Context, host, uri string) fsm.Result {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		return fsm.ResultUpdateFailed
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := fmt.Fprintf(conn, "GET /%s HTTP/1.0\r\nHost: %s\r\n\r\n", uri, host); err != nil {
		return fsm.ResultUpdateFailed
	}
	body := bufio.NewReader(conn)
	for header := ""; header != "\r\n" && header != "\n"; {
		if header, err = body.ReadString('\n'); err != nil {
			return fsm.ResultUnsupProtocol
		}
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return fsm.ResultUpdateFailed
	}
	return fsm.ResultDefault
}

// writeDownloads is Habits.DownloadsInWrite, of a client with one thread: while it downloads it
// sends nothing, and requests wait in the buffer of its socket.
type writeDownloads struct {
	device *Device
	busy   atomic.Bool
	thread chan struct{} // holds a token while it is in use; guards the fields below

	last   *message // the last Write of the Package URI
	answer *message
}

func (w *writeDownloads) received(m *message) (*message, bool) {
	w.thread <- struct{}{}
	defer func() { <-w.thread }()
	uri, ok := writtenText(m)
	if !ok || m.path() != w.device.path(resURI) {
		return nil, true
	}
	if w.last != nil && w.last.mid == m.mid && string(w.last.token) == string(m.token) {
		return w.answer, false
	}
	w.busy.Store(true)
	code, ok := w.device.downloadNow(uri)
	w.busy.Store(false)
	if !ok {
		return nil, false
	}
	w.last, w.answer = m, m.answer(code)
	return w.answer, false
}

func (w *writeDownloads) sent(*message) bool {
	return !w.busy.Load()
}

// writtenText returns the text that a message writes, in plain text or CBOR (RFC 8949).
func writtenText(m *message) (text string, ok bool) {
	if m.code != codePUT {
		return "", false
	}
	if _, blocks := m.block1(); blocks {
		return "", false
	}
	format := ""
	for _, o := range m.options {
		if o.number == optionContentFormat {
			format = string(o.value)
		}
	}
	p := m.payload
	switch {
	case format == "":
		return string(p), true
	case format != "\x3c" || len(p) == 0:
		return "", false
	case p[0] >= 0x60 && p[0] < 0x78 && len(p) == 1+int(p[0]-0x60):
		return string(p[1:]), true
	case p[0] == 0x78 && len(p) > 1 && len(p) == 2+int(p[1]):
		return string(p[2:]), true
	default:
		return "", false
	}
}

// path returns the path of a resource of the firmware object, as "/5/0/1".
func (d *Device) path(resource uint16) string {
	return fmt.Sprintf("/%d/%d/%d", d.objectID(), d.instance(), resource)
}

// downloadNow downloads a Package URI, and returns the code of the answer to its Write; ok is false
// if the device restarts meanwhile.
func (d *Device) downloadNow(uri string) (code byte, ok bool) {
	d.mu.Lock()
	d.note("uri %s", uri)
	d.halt()
	ctx, stop := context.WithCancel(d.life)
	d.uri, d.stop = uri, stop
	d.mu.Unlock()
	result, _ := d.pull(ctx, uri)
	if errors.Is(ctx.Err(), context.Canceled) {
		return 0, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if result == fsm.ResultDefault {
		d.state = fsm.Downloaded
		go d.tell(resState)
		return codeChanged, true
	}
	d.state, d.result = fsm.Idle, result
	go d.tell(resResult, resState)
	return codeInternalError, true
}
