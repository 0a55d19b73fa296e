package main

import (
	"context"
	"io"
	"net/http"

	"github.com/otago-iot/otago/firmware/fsm"
)

// download is a package for a device to pull.
type download struct {
	d        *device
	uri      string
	transfer uint32
}

// download pulls packages, one after the other, until ctx ends.
func (w *world) download(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case job := <-w.jobs:
			i, fault := w.pull(ctx, job.uri)
			if fault == fsm.ResultDefault {
				w.downloads.Add(1)
			} else {
				w.downloadsFailed.Add(1)
			}
			job.d.pulled(job.transfer, i, fault)
		}
	}
}

// pull downloads a package. On failure fault is the reason.
func (w *world) pull(ctx context.Context, uri string) (i *intake, fault fsm.Result) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, fsm.ResultInvalidURI
	}
	response, err := w.client.Do(request)
	if err != nil {
		return nil, fsm.ResultConnectionLost
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fsm.ResultInvalidURI
	}
	i = newIntake()
	if _, err := io.Copy(i, io.LimitReader(response.Body, int64(w.role.Fleet.Size)+1)); err != nil {
		return nil, fsm.ResultConnectionLost
	}
	return i, fsm.ResultDefault
}

// pulled handles the end of a download, unless it was cancelled in the meantime.
func (d *device) pulled(transfer uint32, i *intake, fault fsm.Result) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || transfer != d.transfer || d.state != fsm.Downloading {
		return
	}
	d.taken(i, fault)
	d.tell()
}

// push handles a block of a package (RFC 7959, Block1). An empty body or a single NUL byte resets.
func (d *device) push(m *message) answer {
	number, more, exponent := 0, false, 6
	if m.block1 != absent {
		number, more, exponent = m.block1>>4, m.block1&8 != 0, m.block1&7
	}
	switch {
	case exponent == 7:
		return code(codeBadRequest)
	case number == 0 && !more && (len(m.payload) == 0 || len(m.payload) == 1 && m.payload[0] == 0):
		return d.reset()
	case number == 0:
		if d.state != fsm.Idle && d.intake == nil {
			return code(codeBadRequest)
		}
		d.intake = newIntake()
		d.set(fsm.Downloading, fsm.ResultDefault)
	case d.intake == nil || d.intake.size != number<<(exponent+4):
		return code(codeIncomplete)
	}
	_, _ = d.intake.Write(m.payload) // never fails
	a := code(codeChanged)
	a.block1 = m.block1
	if more {
		a.code = codeContinue
		return a
	}
	d.taken(d.intake, fsm.ResultDefault)
	return a
}
