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
	"github.com/otago-iot/otago/internal/work"
)

// minProgress is how many bytes a try must get beyond all earlier ones to count as progress.
const minProgress = 1024

// errStartOver means that the stored bytes are not a part of what the server has now, or that this
// cannot be known.
var errStartOver = errors.New("device: the download starts over")

// transientError is a failure that a later try may not meet. after is the shortest pause before
// that try.
type transientError struct {
	err   error
	after time.Duration
}

func (e *transientError) Error() string { return e.err.Error() }
func (e *transientError) Unwrap() error { return e.err }

func transient(err error) error { return &transientError{err: err} }

// A transfer is one download with all its tries.
type transfer struct {
	device *Device
	number uint32   // the number of the transfer in the machine
	url    *url.URL // has been checked
	client *http.Client

	ctx     context.Context // of the whole download
	out     PackageWriter
	offset  int64  // the number of bytes written to out
	etag    string // the strong entity tag of the written bytes, "" if there is none
	size    int64  // of the package, -1 if it is not known
	changed bool   // the server announced another size for the same entity tag
	synced  int64  // the offset that the machine has
	best    int64  // the highest offset that any try reached
}

// download downloads the package and returns how that ended. It returns when the package is
// complete, when it has failed for good, or when ctx has ended.
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

// run tries until the package is complete or further tries are pointless.
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
	var pauses work.Backoff
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
			failures, pauses = 0, 0
		}
		if failures++; failures >= config.Attempts {
			return fmt.Errorf("given up after %d tries: %w", failures, err)
		}
		pause := pauses.Next(config.MinBackoff, config.MaxBackoff)
		if again {
			pause = max(pause, min(failure.after, config.MaxBackoff))
		}
		t.device.log.Info("download interrupted", "source", showURL(t.url), "offset", t.offset, "again in", pause, "error", err)
		if !work.Sleep(ctx, pause) {
			return ctx.Err()
		}
	}
}

// try makes one try to download what is missing.
func (t *transfer) try(ctx context.Context) error {
	if t.etag == "" { // there is no proof that the server has the same bytes
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
	// Keep what has arrived, for the next try or after a crash.
	if failed := t.sync(ctx); failed != nil {
		return failed
	}
	return err
}

// open opens the package at the offset, and closes the writer that was open.
func (t *transfer) open(ctx context.Context) error {
	if t.size >= 0 && t.tooBig(t.size) {
		return t.bigError()
	}
	if err := t.close(); err != nil {
		return storageError(err)
	}
	if t.offset < t.synced { // the machine forgets the bytes before they are removed
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

// Write writes the bytes from offset on.
func (t *transfer) Write(p []byte) (int, error) {
	switch {
	case t.changed:
		return 0, fmt.Errorf("%w: the server announces another size than before", errStartOver)
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

// sync makes the written bytes durable, and then records the offset: the machine never expects
// bytes that are not stored.
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

// reached checks that a body which ended without an error is complete.
func (t *transfer) reached() error {
	switch {
	case t.changed:
		return fmt.Errorf("%w: the server announces another size than before", errStartOver)
	case t.size >= 0 && t.offset != t.size:
		return transient(fmt.Errorf("body ends at byte %d of %d", t.offset, t.size))
	case t.offset == 0:
		return fmt.Errorf("%w: it is empty", ErrUnsupportedPackage)
	}
	return nil
}
