package device

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// Before a download takes a byte, it compares the lengths and ranges of the response with all that
// it knows, so that it ends with a whole package or an error. A response that contradicts itself,
// or what was known before, starts the download over (errStartOver), which counts as a failed try.

// part says what the body of a response contains.
type part struct {
	skip   int64 // bytes at its start that are stored already
	length int64 // bytes that it must have, -1 for any number
	none   bool  // nothing is missing: the body is ignored
}

// accept checks the header of a response.
func (t *transfer) accept(ctx context.Context, r *http.Response) (part, error) {
	if coded := codings(r); coded != "" {
		return part{}, fmt.Errorf("%w: content encoding %q was not asked for", ErrUnsupportedPackage, coded)
	}
	etag := strongTag(r.Header.Values("ETag"))
	switch r.StatusCode {
	case http.StatusOK:
		return t.acceptWhole(ctx, r, etag)
	case http.StatusPartialContent:
		return t.acceptPart(ctx, r, etag)
	case http.StatusRequestedRangeNotSatisfiable:
		span, err := contentRange(r.Header.Values("Content-Range"))
		if err == nil && t.offset > 0 && span.first < 0 && span.total == t.offset && t.fits(etag, span.total) {
			return part{none: true}, t.identify(ctx, etag, span.total) // the package was complete before a crash
		}
		return part{}, fmt.Errorf("%w: range refused", errStartOver)
	case http.StatusPreconditionFailed:
		return part{}, fmt.Errorf("%w: content changed", errStartOver)
	}
	return part{}, statusError(r)
}

// acceptWhole accepts the whole package. If a part was requested, the server does not support
// ranges, or it has another package.
func (t *transfer) acceptWhole(ctx context.Context, r *http.Response, etag string) (part, error) {
	switch {
	case multipart(r):
		return part{}, fmt.Errorf("%w: the server sent several parts", errStartOver)
	case !allOf(r):
		return part{}, fmt.Errorf("%w: the server sent a part as the whole", errStartOver)
	case r.ContentLength < 0 && r.ProtoMajor < 2 && len(r.TransferEncoding) == 0:
		// A broken connection could not be distinguished from the end.
		return part{}, transient(errors.New("the response announces neither a length nor an end"))
	}
	if t.offset > 0 {
		if err := t.restart(ctx); err != nil {
			return part{}, err
		}
	}
	return part{length: r.ContentLength}, t.identify(ctx, etag, r.ContentLength)
}

// allOf reports whether the Content-Range of a response with status 200, which should have none, is
// the whole.
func allOf(r *http.Response) bool {
	values := r.Header.Values("Content-Range")
	if len(values) == 0 {
		return true
	}
	span, err := contentRange(values)
	return err == nil && span.first == 0 && span.last+1 == span.total && (r.ContentLength < 0 || r.ContentLength == span.total)
}

// acceptPart accepts what follows the offset, perhaps with some bytes before it.
func (t *transfer) acceptPart(ctx context.Context, r *http.Response, etag string) (part, error) {
	span, err := contentRange(r.Header.Values("Content-Range"))
	if err != nil {
		return part{}, fmt.Errorf("%w: %w", errStartOver, err)
	}
	if t.offset == 0 { // no part was requested: what was known does not matter
		t.etag, t.size = etag, -1
	}
	if span.total < 0 { // the server does not know it yet
		span.total = t.size
	}
	p := part{skip: t.offset - span.first, length: span.last - span.first + 1}
	switch {
	case multipart(r):
		return part{}, fmt.Errorf("%w: the server sent several parts", errStartOver)
	case span.total < 0:
		return part{}, fmt.Errorf("%w: the server sent a part, and the size of the whole is not known", errStartOver)
	case !t.fits(etag, span.total), span.first < 0, span.first > t.offset, span.last < t.offset, span.last >= span.total:
		return part{}, fmt.Errorf("%w: the server sent another part", errStartOver)
	}
	return p, t.identify(ctx, etag, span.total)
}

// fits reports whether a part of total bytes belongs to what is stored.
func (t *transfer) fits(etag string, total int64) bool {
	return (etag != "" || t.offset == 0) && etag == t.etag && total >= t.offset && (t.size < 0 || t.size == total)
}

// codings returns the content encoding of a body, "" if there is none.
func codings(r *http.Response) string {
	if r.Uncompressed {
		return "(decoded by the transport)"
	}
	for _, line := range r.Header.Values("Content-Encoding") {
		for coding := range strings.SplitSeq(line, ",") {
			if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
				return coding
			}
		}
	}
	return ""
}

// strongTag returns the entity tag, "" if there is none or a weak one, which does not identify
// bytes.
func strongTag(values []string) string {
	if len(values) != 1 {
		return ""
	}
	etag := values[0]
	if len(etag) < 2 || len(etag) > 128 || etag[0] != '"' || etag[len(etag)-1] != '"' {
		return ""
	}
	return etag
}

// multipart reports whether a body is multipart/byteranges, which wraps the bytes.
func multipart(r *http.Response) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		kind, _, _ = strings.Cut(r.Header.Get("Content-Type"), ";")
	}
	return strings.EqualFold(strings.TrimSpace(kind), "multipart/byteranges")
}

// byteSpan is a Content-Range. A missing number is -1.
type byteSpan struct{ first, last, total int64 }

// contentRange parses the only Content-Range: "bytes 0-9/10", "bytes 0-9/*" or "bytes */10" (RFC
// 9110, section 14.4).
func contentRange(values []string) (byteSpan, error) {
	none := byteSpan{-1, -1, -1}
	if len(values) != 1 {
		return none, fmt.Errorf("%d Content-Range", len(values))
	}
	bad := fmt.Errorf("bad Content-Range %.40q", values[0])
	unit, rest, ok := strings.Cut(values[0], " ")
	span, total, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 || !strings.EqualFold(unit, "bytes") {
		return none, bad
	}
	s := none
	if total != "*" && !digits(total, &s.total) {
		return none, bad
	}
	if span == "*" {
		if total == "*" {
			return none, bad
		}
		return s, nil
	}
	from, to, ok := strings.Cut(span, "-")
	if !ok || !digits(from, &s.first) || !digits(to, &s.last) || s.last < s.first || total != "*" && s.last >= s.total {
		return none, bad
	}
	return s, nil
}

// digits parses an unsigned number.
func digits(s string, n *int64) bool {
	u, err := strconv.ParseUint(s, 10, 63)
	*n = int64(u)
	return err == nil
}

// exactly reads a body that must have as many bytes as were announced.
type exactly struct {
	in   io.Reader
	left int64 // -1 for any number
}

func (e *exactly) Read(p []byte) (int, error) {
	n, err := e.in.Read(p)
	switch {
	case e.left < 0:
		return n, err
	case int64(n) > e.left:
		return 0, fmt.Errorf("%w: more bytes than announced", errStartOver)
	}
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
