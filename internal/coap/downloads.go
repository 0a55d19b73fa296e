package coap

import (
	"bytes"
	"hash/fnv"
	"sync/atomic"
	"time"
)

// lastBlockIdle is how long a response body is kept after its last block was sent, because that
// block may be lost.
const lastBlockIdle = 10 * time.Second

// download is a response whose body a peer fetches by Block2. The table and the requests that are
// answered from it share it.
type download struct {
	a    *association
	resp Response // with Body, never Payload
	refs atomic.Int32
	more atomic.Bool // blocks after the first were requested
}

func (d *download) origin() *origin { return d.a.origin }

func (d *download) advanced() bool { return d.more.Load() }

func (d *download) dropped(error) { d.free() }

// free gives up a reference; the last one closes the body.
func (d *download) free() {
	if d.refs.Add(-1) > 0 {
		return
	}
	d.a.closeBody(&d.resp)
}

// response returns the response that the handler returned.
func (d *download) response() *Response { return &d.resp }

type downloads struct{ held[*download] }

// find returns the download of key, or nil. The caller must free the reference.
func (ds *downloads) find(key transferKey) *download {
	d, _ := ds.held.find(key, func(d *download) { d.refs.Add(1) })
	return d
}

func (in *incoming) downloadKey() transferKey {
	if in.target == (transferKey{}) {
		in.target = transferKey{in.a.serial, in.e.targetOf(&in.req, URIHost, URIPort, URIPath, URIQuery, Accept, RequestTag)}
	}
	return in.target
}

// keep stores resp, which needs several blocks, until the peer has fetched them. It returns the
// stored form.
func (e *Endpoint) keep(key transferKey, a *association, resp *Response) *download {
	d := &download{a: a, resp: *resp}
	if d.resp.Body == nil {
		d.resp.Body = bytes.NewReader(resp.Payload)
		d.resp.Size = int64(len(resp.Payload))
		if len(resp.ETag) == 0 {
			// An ETag lets the peer detect a change of the representation.
			h := fnv.New64a()
			h.Write(resp.Payload)
			d.resp.ETag = h.Sum(nil)
		}
		d.resp.Payload = nil
	}
	d.resp.After = nil
	d.refs.Store(2)
	if !e.downloads.put(key, a, d, e.config.DownloadIdle, e.timers.now()) {
		d.refs.Add(-1)
	}
	return d
}
