package device

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// httpClient returns the client for one download.
func (c Config) httpClient(h *handshakes) *http.Client {
	var transport http.RoundTripper = guardedTransport{c.Transport, c.Logger}
	if c.Transport == nil {
		config := &tls.Config{}
		if c.TLS != nil {
			config = c.TLS.Clone()
		}
		config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
		transport = &http.Transport{
			DialContext: (&net.Dialer{Timeout: c.Idle}).DialContext, DialTLSContext: c.dialTLS(config, h),
			DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		}
	}
	return &http.Client{Transport: transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > c.MaxRedirects {
			return http.ErrUseLastResponse
		}
		r.Header.Del("Referer") // the URL may be a secret that gives access to the package
		if from := via[len(via)-1].URL; from.Scheme == string(fsm.ProtocolHTTPS) && r.URL.Scheme != from.Scheme {
			return invalidURI("redirect from https to %s", r.URL.Scheme)
		}
		return c.allowed(r.URL)
	}}
}

// fetchHTTP downloads what follows the offset.
func (t *transfer) fetchHTTP(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := t.device.config.Idle
	watchdog := time.AfterFunc(idle, func() { cancel(fmt.Errorf("nothing came for %s", idle)) })
	defer watchdog.Stop()

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url.String(), nil)
	if err != nil {
		return invalidURI("not a URL")
	}
	request.Header.Set("Accept-Encoding", "identity")
	if t.offset > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", t.offset))
		request.Header.Set("If-Match", t.etag)
	}
	response, err := t.client.Do(request)
	watchdog.Stop() // until the body is read
	if err != nil {
		return httpError(ctx, err)
	}
	defer func() {
		watchdog.Reset(idle)
		response.Body.Close()
	}()
	part, err := t.accept(ctx, response)
	if err != nil || part.none {
		return err
	}
	body := &exactly{in: &idleReader{in: response.Body, watchdog: watchdog, idle: idle}, left: part.length}
	if part.skip > 0 {
		if _, err := io.CopyN(io.Discard, body, part.skip); err != nil {
			return httpError(ctx, err)
		}
	}
	sink := &errorKeeper{out: t}
	if _, err := io.Copy(sink, body); err != nil {
		if sink.err != nil {
			return sink.err
		}
		return httpError(ctx, err)
	}
	return t.reached()
}

// restart starts the package over within a try.
func (t *transfer) restart(ctx context.Context) error {
	t.offset, t.etag, t.size = 0, "", -1
	return t.open(ctx)
}

// identify records the entity tag and the size of the package, and checks the size.
func (t *transfer) identify(ctx context.Context, etag string, size int64) error {
	t.etag = etag
	if size < 0 {
		return nil
	}
	known := t.size == size
	t.size = size
	switch {
	case t.tooBig(size):
		return t.bigError()
	case !known:
		return t.open(ctx) // the installer has not seen the size yet
	}
	return nil
}

// statusError classifies the responses without a package. If the URI is the cause it becomes Result
// 7, so that the server can try another URI.
func statusError(r *http.Response) error {
	err := fmt.Errorf("status %d", r.StatusCode)
	switch code := r.StatusCode; {
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code >= 500:
		seconds, _ := strconv.Atoi(r.Header.Get("Retry-After"))
		return &transientError{err: err, after: time.Duration(max(0, min(seconds, 3600))) * time.Second}
	case code >= 400:
		return &ResultError{Result: fsm.ResultInvalidURI, Err: err}
	case code >= 300:
		return invalidURI("status %d: too many redirects", code)
	default:
		return transient(err)
	}
}

// httpError classifies failures to reach the server or to receive from it.
func httpError(ctx context.Context, err error) error {
	err = withoutURL(err)
	if _, ok := errors.AsType[*ResultError](err); ok || errors.Is(err, errStartOver) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && cause != context.Canceled {
		return transient(cause)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return invalidURI("no such host")
	}
	return transient(err)
}

// idleReader runs a watchdog while it waits for bytes, and stops it while they are processed, which
// may include erasing flash.
type idleReader struct {
	in       io.Reader
	watchdog *time.Timer
	idle     time.Duration
	waiting  bool
}

func (r *idleReader) Read(p []byte) (int, error) {
	if !r.waiting { // a read that returns no bytes does not restart the watchdog
		r.watchdog.Reset(r.idle)
		r.waiting = true
	}
	n, err := r.in.Read(p)
	if n > 0 || err != nil {
		r.watchdog.Stop()
		r.waiting = false
	}
	return n, err
}

// errorKeeper keeps the error of a Write, which io.Copy does not tell from that of a Read.
type errorKeeper struct {
	out io.Writer
	err error
}

func (k *errorKeeper) Write(p []byte) (n int, err error) {
	n, err = k.out.Write(p)
	k.err = err
	return n, err
}
