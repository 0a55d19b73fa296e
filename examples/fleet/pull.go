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
