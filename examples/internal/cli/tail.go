package cli

import (
	"bytes"
	"sync"
)

// A Tail keeps the last bytes of a process's output, to show why it ended. The zero value is ready
// to use, also by several goroutines.
type Tail struct {
	Size int // bytes to keep; default 4096

	mu  sync.Mutex
	buf []byte
}

// Write never fails.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	size := t.Size
	if size <= 0 {
		size = 4096
	}
	t.buf = append(t.buf, p...)
	t.buf = t.buf[max(0, len(t.buf)-size):]
	return len(p), nil
}

// String returns the end of the output without surrounding white space, or says that there was
// none.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := bytes.TrimSpace(t.buf)
	if len(text) == 0 {
		return "it wrote nothing"
	}
	return string(text)
}
