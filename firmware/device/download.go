package device

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// minProgress is how many bytes a try must get further than all before it to count as one that did.
const minProgress = 1024

// errStartOver: what is stored belongs to other bytes than the server has now, or cannot be matched with them.
var errStartOver = errors.New("device: download starts over")

// transientError is a failure that may be gone at the next try, which should not come before after.
type transientError struct {
	err   error
	after time.Duration
}

func (e *transientError) Error() string { return e.err.Error() }
func (e *transientError) Unwrap() error { return e.err }

func transient(err error) error { return &transientError{err: err} }

// A transfer is one download with all its tries: what is known of the remote bytes, and where they go.
type transfer struct {
	device *Device
	number uint32   // the machine's number for it
	url    *url.URL // what to fetch, checked
	client *http.Client

	ctx     context.Context // of the whole download
	out     PackageWriter
	offset  int64  // bytes written to out
	etag    string // strong entity tag of what was written, "" if there is none
	size    int64  // of the whole, -1 if not known
	changed bool   // the server says another size of the same bytes
	synced  int64  // the offset that the machine knows
	best    int64  // the highest offset that any try reached
}

// download fetches object's package and returns how that ended. It works on until it is done, has failed for good or ctx
// ends.
func (d *Device) download(ctx context.Context, object fsm.Object) fsm.Input {
	source, err := d.config.source(object.URI)
	t := &transfer{device: d, number: object.Transfer, url: source, offset: object.Offset, etag: object.ETag, size: -1}
	if object.Size > 0 {
		t.size = object.Size
	}
	t.synced, t.best = t.offset, t.offset
	if err == nil {
		err = t.run(ctx)
	}
	if err != nil {
		d.log.Warn("download failed", "source", showURL(source), "offset", t.offset, "error", err)
		return fsm.Input{Kind: fsm.InputDownloadFailed, Transfer: t.number, Fault: resultOf(err, fsm.ResultConnectionLost)}
	}
	return fsm.Input{Kind: fsm.InputDownloadComplete, Transfer: t.number, Size: t.offset}
}

// run tries until the package is here or there is no hope.
func (t *transfer) run(ctx context.Context) (err error) {
	t.ctx = ctx
	h := &handshakes{ctx: ctx}
	t.client = t.device.config.httpClient(h)
	defer h.close()
	defer t.client.CloseIdleConnections()
	defer func() {
		if failed := t.close(); err == nil && failed != nil {
			err = storageError(failed)
		}
	}()
	config := t.device.config
	backoff := config.MinBackoff
	for failures := 0; ; {
		best := t.best
		err := t.try(ctx)
		failure, again := errors.AsType[*transientError](err)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !again && !errors.Is(err, errStartOver):
			return err
		}
		if t.best >= best+minProgress {
			failures, backoff = 0, config.MinBackoff
		}
		if failures++; failures >= config.Attempts {
			return fmt.Errorf("given up after %d tries: %w", failures, err)
		}
		pause := backoff
		if again {
			pause = max(pause, min(failure.after, config.MaxBackoff))
		}
		t.device.log.Info("download interrupted", "source", showURL(t.url), "offset", t.offset, "again in", pause, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		backoff = min(2*backoff, config.MaxBackoff)
	}
}

// try fetches what is missing, once.
func (t *transfer) try(ctx context.Context) error {
	if t.etag == "" { // nothing would say that they are the same bytes
		t.offset, t.size = 0, -1
	}
	if err := t.open(ctx); err != nil {
		return err
	}
	var err error
	switch fsm.Protocol(t.url.Scheme) {
	case fsm.ProtocolHTTP, fsm.ProtocolHTTPS:
		err = t.fetchHTTP(ctx)
	default:
		err = t.fetchCoAP(ctx)
	}
	if errors.Is(err, errStartOver) {
		t.offset, t.etag, t.size, t.changed = 0, "", -1, false
		return err
	}
	if _, again := errors.AsType[*transientError](err); err != nil && !again {
		return err
	}
	// What has come is kept, whatever comes next.
	if failed := t.sync(ctx); failed != nil {
		return failed
	}
	return err
}

// open opens the installer at the offset. A writer that is already there goes on, it knows no gap.
func (t *transfer) open(ctx context.Context) error {
	if t.size >= 0 && t.tooBig(t.size) {
		return t.bigError()
	}
	if err := t.close(); err != nil {
		return storageError(err)
	}
	if t.offset < t.synced { // forgotten before it is gone
		if err := t.tell(ctx, 0, ""); err != nil {
			return err
		}
	}
	out, err := t.device.installer.OpenPackage(ctx, t.offset, t.size)
	if err != nil {
		return storageError(err)
	}
	t.out = out
	return nil
}

func (t *transfer) close() error {
	if t.out == nil {
		return nil
	}
	out := t.out
	t.out = nil
	return out.Close()
}

// Write implements [io.Writer] for the protocols: bytes from offset on.
func (t *transfer) Write(p []byte) (int, error) {
	switch {
	case t.changed:
		return 0, fmt.Errorf("%w: another length is announced than before", errStartOver)
	case t.size >= 0 && int64(len(p)) > t.size-t.offset:
		return 0, fmt.Errorf("%w: more than the %d bytes that were announced", errStartOver, t.size)
	}
	n, err := t.out.Write(p)
	t.offset += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	t.best = max(t.best, t.offset)
	if err != nil {
		return n, storageError(err)
	}
	if t.tooBig(t.offset) {
		return n, t.bigError()
	}
	if t.offset-t.synced >= t.device.config.SyncEvery {
		return n, t.sync(t.ctx)
	}
	return n, nil
}

func (t *transfer) tooBig(n int64) bool {
	return t.device.config.MaxSize > 0 && n > t.device.config.MaxSize
}

func (t *transfer) bigError() error {
	return fmt.Errorf("%w: more than %d bytes", ErrNoStorage, t.device.config.MaxSize)
}

// sync makes durable what has come, then lets the machine know: it never believes in more than is there.
func (t *transfer) sync(ctx context.Context) error {
	durable, err := t.out.Sync()
	if err != nil {
		return storageError(err)
	}
	return t.tell(ctx, durable, t.etag)
}

func (t *transfer) tell(ctx context.Context, offset int64, etag string) error {
	ev := fsm.Input{Kind: fsm.InputProgress, At: time.Now(), Transfer: t.number, Offset: offset, Size: max(t.size, 0), ETag: etag}
	if _, _, _, err := t.device.commit(ctx, ev); err != nil {
		return storageError(err)
	}
	t.synced = offset
	return nil
}

// reached checks the end of a body that came without a failure.
func (t *transfer) reached() error {
	switch {
	case t.changed:
		return fmt.Errorf("%w: another length is announced than before", errStartOver)
	case t.size >= 0 && t.offset != t.size:
		return transient(fmt.Errorf("body ends at byte %d of %d", t.offset, t.size))
	case t.offset == 0:
		return fmt.Errorf("%w: it is empty", ErrUnsupportedPackage)
	}
	return nil
}
