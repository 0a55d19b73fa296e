package main

import (
	"bufio"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// download is a package for a device to pull.
type download struct {
	d        *device
	uri      string
	transfer uint16
}

// download pulls packages, one after the other, until ctx ends.
func (w *world) download(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case job := <-w.jobs:
			i, fault := w.pull(ctx, job)
			if fault == fsm.ResultDefault {
				w.downloads.Add(1)
			} else {
				w.downloadsFailed.Add(1)
			}
			if most := w.role.Fleet.Download; most > 0 {
				time.AfterFunc(rand.N(most), func() { job.d.pulled(job.transfer, i, fault) })
			} else {
				job.d.pulled(job.transfer, i, fault)
			}
		}
	}
}

// pullTime limits a download.
const pullTime = time.Minute

// pull downloads a package, on a connection of the device's own. On failure fault is the reason.
func (w *world) pull(ctx context.Context, job download) (i *intake, fault fsm.Result) {
	u, err := url.Parse(job.uri)
	if err != nil || u.Scheme != "http" {
		return nil, fsm.ResultInvalidURI
	}
	job.d.s.mu.Lock()
	address := netipOf(w.address(int(job.d.number), job.d.moves))
	job.d.s.mu.Unlock()
	dialer := net.Dialer{Timeout: pullTime, LocalAddr: &net.TCPAddr{IP: address.AsSlice()}}
	conn, err := dialer.DialContext(ctx, "tcp4", u.Host)
	if err != nil {
		return nil, fsm.ResultConnectionLost
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(pullTime)) // without it the server's limits hold
	if _, err := io.WriteString(conn, "GET "+u.RequestURI()+" HTTP/1.1\r\nHost: "+u.Host+"\r\nConnection: close\r\n\r\n"); err != nil {
		return nil, fsm.ResultConnectionLost
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
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
func (d *device) pulled(transfer uint16, i *intake, fault fsm.Result) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if transfer != d.transfer || d.state != uint8(fsm.Downloading) {
		return
	}
	d.taken(i, fault)
	if d.kind == asleep && d.s.w.now() > d.awake { // it wakes, and says so
		d.due = d.s.w.now()
	} else {
		d.tell()
	}
	d.arm()
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
		if d.state != uint8(fsm.Idle) && d.intake == nil {
			return code(codeBadRequest)
		}
		d.intake = newIntake()
		d.acts.Transfers++
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
