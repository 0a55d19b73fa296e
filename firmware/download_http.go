package firmware

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// httpClient makes the client of one download.
func (c DeviceConfig) httpClient() *http.Client {
	transport := c.Transport
	if transport == nil {
		config := &tls.Config{}
		if c.TLS != nil {
			config = c.TLS.Clone()
		}
		config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
		transport = &http.Transport{
			DialContext: (&net.Dialer{Timeout: c.Idle}).DialContext, TLSClientConfig: config,
			TLSHandshakeTimeout: c.Idle, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		}
	}
	return &http.Client{Transport: transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > c.MaxRedirects {
			return http.ErrUseLastResponse
		}
		r.Header.Del("Referer") // it may be all that it takes to fetch the package
		if from := via[len(via)-1].URL; from.Scheme == string(fsm.ProtocolHTTPS) && r.URL.Scheme != from.Scheme {
			return invalidURI("redirect from https to %s", r.URL.Scheme)
		}
		return c.allowed(r.URL)
	}}
}

// fetchHTTP fetches from the offset on.
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
	if err != nil {
		return httpError(ctx, err)
	}
	defer response.Body.Close()
	skip, err := t.accept(response)
	if err != nil || skip < 0 {
		return err
	}
	body := &idleReader{in: response.Body, watchdog: watchdog, idle: idle}
	if skip > 0 {
		if _, err := io.CopyN(io.Discard, body, skip); err != nil {
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

// accept reads the head of a response. The first skip bytes of its body are here already, the rest belongs at the offset;
// with a skip below 0 nothing is missing.
func (t *transfer) accept(r *http.Response) (skip int64, err error) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return 0, fmt.Errorf("%w: content encoding %q, which nobody asked for", ErrUnsupportedPackage, encoding)
	}
	etag := r.Header.Get("ETag")
	if !strings.HasPrefix(etag, `"`) || len(etag) < 2 || len(etag) > 128 || !strings.HasSuffix(etag, `"`) {
		etag = "" // none, or a weak one, which says nothing about bytes
	}
	switch r.StatusCode {
	case http.StatusOK:
		if t.offset > 0 { // the server does not do ranges, or has another file: this is all of it
			if err := t.restart(); err != nil {
				return 0, err
			}
		}
		return 0, t.identify(etag, r.ContentLength)
	case http.StatusPartialContent:
		first, total, err := contentRange(r.Header.Get("Content-Range"))
		switch {
		case err != nil:
			return 0, fmt.Errorf("%w: %w", errStartOver, err)
		case etag != t.etag, first < 0, first > t.offset, total >= 0 && total < t.offset, t.size >= 0 && total >= 0 && total != t.size:
			return 0, fmt.Errorf("%w: another part was sent", errStartOver)
		}
		return t.offset - first, t.identify(etag, total)
	case http.StatusRequestedRangeNotSatisfiable:
		if _, total, err := contentRange(r.Header.Get("Content-Range")); err == nil && total == t.offset && t.offset > 0 && etag == t.etag {
			return -1, t.identify(etag, total) // it was complete: whoever asked had died before it knew
		}
		return 0, fmt.Errorf("%w: range refused", errStartOver)
	case http.StatusPreconditionFailed:
		return 0, fmt.Errorf("%w: content changed", errStartOver)
	}
	return 0, statusError(r)
}

// restart begins the package anew within a try.
func (t *transfer) restart() error {
	t.offset, t.etag, t.size = 0, "", -1
	return t.open(context.Background())
}

// identify notes what the bytes belong to, and looks whether there can be room for them.
func (t *transfer) identify(etag string, size int64) error {
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
		return t.open(context.Background()) // again, now that the size is known
	}
	return nil
}

// statusError sorts the answers that bring no package. What the URI is to blame for is Result 7: the server may try another.
func statusError(r *http.Response) error {
	err := fmt.Errorf("status %d", r.StatusCode)
	switch code := r.StatusCode; {
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code >= 500:
		seconds, _ := strconv.Atoi(r.Header.Get("Retry-After"))
		return &transientError{err: err, after: time.Duration(max(0, min(seconds, 3600))) * time.Second}
	case code >= 400:
		return &ResultError{Result: fsm.ResultInvalidURI, Err: err}
	case code >= 300:
		return invalidURI("status %d: a redirect too many", code)
	default:
		return transient(err)
	}
}

// httpError sorts failures to reach the server or to hear from it.
func httpError(ctx context.Context, err error) error {
	err = withoutURL(err)
	if _, ok := errors.AsType[*ResultError](err); ok {
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

// contentRange reads "bytes 0-9/10", "bytes 0-9/*" and "bytes */10". What is not there is -1.
func contentRange(s string) (first, total int64, err error) {
	first, total = -1, -1
	span, rest, ok := strings.Cut(strings.TrimPrefix(s, "bytes "), "/")
	if !ok || !strings.HasPrefix(s, "bytes ") {
		return first, total, fmt.Errorf("bad Content-Range %.40q", s)
	}
	number := func(s string) int64 {
		n, e := strconv.ParseUint(s, 10, 63)
		if e != nil {
			err = fmt.Errorf("bad Content-Range: %w", e)
		}
		return int64(n)
	}
	if span != "*" {
		from, to, _ := strings.Cut(span, "-")
		first = number(from)
		if last := number(to); last < first {
			err = fmt.Errorf("bad Content-Range %.40q", s)
		}
	}
	if rest != "*" {
		total = number(rest)
	}
	return first, total, err
}

// idleReader feeds a watchdog with every byte.
type idleReader struct {
	in       io.Reader
	watchdog *time.Timer
	idle     time.Duration
}

func (r *idleReader) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	if n > 0 {
		r.watchdog.Reset(r.idle)
	}
	return n, err
}

// errorKeeper tells errors of writing from those of reading.
type errorKeeper struct {
	out io.Writer
	err error
}

func (k *errorKeeper) Write(p []byte) (n int, err error) {
	n, err = k.out.Write(p)
	k.err = err
	return n, err
}
