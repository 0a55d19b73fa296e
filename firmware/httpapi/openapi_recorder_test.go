package httpapi

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// Recorded wraps a handler of the API, so that each request and each response of a test is compared
// with openapi.yaml. The test fails if a response is not valid by the file, or if the server has
// accepted a request that is not.
func Recorded(t testing.TB, api http.Handler) http.Handler {
	t.Helper()
	s, err := theSpec()
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{api: api, spec: s}
	t.Cleanup(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, wrong := range r.wrong {
			t.Error("openapi.yaml:", wrong)
		}
	})
	return r
}

type recorder struct {
	api  http.Handler
	spec *spec

	mu    sync.Mutex
	wrong []string // at most maxWrong
}

const (
	maxWrong    = 10
	maxRecorded = 1 << 20 // bytes of a stream that are compared
)

func (r *recorder) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	sent := &recordedBody{ReadCloser: request.Body}
	if request.Body != nil && request.Body != http.NoBody {
		request = request.WithContext(request.Context()) // a copy
		request.Body = sent
	}
	got := &recordedWriter{ResponseWriter: w}
	defer func() {
		if err := r.check(request, sent.text.Bytes(), got); err != nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.wrong) < maxWrong {
				body := sent.text.String()
				r.wrong = append(r.wrong, fmt.Sprintf("%s %s %.300s: %v", request.Method, request.URL, body, err))
			}
		}
	}()
	r.api.ServeHTTP(got, request)
}

func (r *recorder) check(request *http.Request, sent []byte, got *recordedWriter) error {
	status, header, body := got.result()
	_, path, found := strings.Cut(request.URL.EscapedPath(), base)
	o, values := r.spec.find(request.Method, path)
	switch {
	case request.Method == http.MethodOptions && status == http.StatusNoContent:
		if header.Get("Allow") == "" || len(body) > 0 {
			return fmt.Errorf("OPTIONS: no header Allow, or a body %q", body)
		}
		return nil
	case o != nil && found:
	case status == http.StatusMethodNotAllowed && header.Get("Allow") == "":
		return fmt.Errorf("405: no header Allow")
	case status >= http.StatusBadRequest:
		if err := r.spec.validateJSON("/components/schemas/Problem", body); err != nil && request.Method != http.MethodHead {
			return err
		}
		return nil
	default:
		return fmt.Errorf("there is no such call, and it answers %d", status)
	}
	seen.add(o, status, body)
	if err := o.checkResponse(request.Method, status, header, body); err != nil {
		return fmt.Errorf("the response %d %.300s: %w", status, body, err)
	}
	if status < 300 {
		if err := o.checkRequest(request, values, sent); err != nil {
			return fmt.Errorf("the server has accepted it (%d), and by the file it is wrong: %w", status, err)
		}
	}
	return nil
}

// A recordedBody keeps what is read of a body.
type recordedBody struct {
	io.ReadCloser
	text bytes.Buffer
}

func (b *recordedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.text.Write(p[:n])
	return n, err
}

// A recordedWriter keeps what is written. http.ResponseController finds the rest by Unwrap.
type recordedWriter struct {
	http.ResponseWriter

	mu     sync.Mutex
	status int
	header http.Header // as it was sent
	body   bytes.Buffer
}

func (w *recordedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recordedWriter) WriteHeader(status int) {
	w.begin(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *recordedWriter) Write(text []byte) (int, error) {
	w.begin(http.StatusOK)
	w.mu.Lock()
	if w.body.Len() < maxRecorded || w.header.Get("Content-Type") != "text/event-stream" {
		w.body.Write(text)
	}
	w.mu.Unlock()
	return w.ResponseWriter.Write(text)
}

func (w *recordedWriter) begin(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status == 0 && status >= 200 {
		w.status, w.header = status, w.Header().Clone()
	}
}

func (w *recordedWriter) result() (int, http.Header, []byte) {
	w.begin(http.StatusOK)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status, w.header, w.body.Bytes()
}
