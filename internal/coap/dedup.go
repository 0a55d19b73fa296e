package coap

import (
	"slices"
	"sync"
	"time"
)

// exchangeLifetime is how long a message id may not be used again (EXCHANGE_LIFETIME, RFC 7252,
// section 4.8.2).
const exchangeLifetime = 247 * time.Second

// dedup recognizes messages that arrive more than once, by peer and message id, and repeats the
// reply to them. A duplicate has the same bytes: a device that has rebooted may use an id again for
// another message, and must not get the reply to the earlier one.
//
// Entries and replies are stored in chunks, which are filled one after the other. A chunk is
// dropped as a whole, the oldest first: when its youngest entry is older than EXCHANGE_LIFETIME, or
// when a limit is reached. The limit counts all keys in the chunks, also those of forgotten
// messages. The garbage collector sees no other pointers than those to the chunks.
type dedup struct {
	mu         sync.Mutex
	entries    map[dedupKey]dedupEntry
	chunks     fifo[*dedupChunk]
	first      uint32 // number of the oldest chunk
	current    *dedupChunk
	keys       int // in all chunks
	bytes      int // of replies
	maxEntries int
	maxBytes   int
}

// dedupKey is the serial of the association, of 48 bits, and a message id.
type dedupKey uint64

func newDedupKey(serial uint64, mid uint16) dedupKey { return dedupKey(serial<<16 | uint64(mid)) }

func (k dedupKey) mid() uint16 { return uint16(k) }

// dedupID is a key with a hash of the message.
type dedupID struct {
	dedupKey
	sum uint32
}

// dedupEntry locates the reply: chunk number, offset and length. Without a reply the length is 0.
// sum is a hash of the message.
type dedupEntry struct {
	sum    uint32
	chunk  uint32
	offset uint16
	length uint16
}

type dedupChunk struct {
	number uint32
	opened time.Duration
	last   time.Duration
	keys   []dedupKey
	data   []byte
}

const (
	dedupChunkBytes = 1 << 15
	dedupChunkKeys  = 1 << 12
	dedupChunkAge   = 30 * time.Second
	forgetReach     = 64 // how many of the last keys forget searches
)

func newDedup(maxEntries, maxBytes int) *dedup {
	return &dedup{
		entries:    make(map[dedupKey]dedupEntry),
		maxEntries: max(maxEntries, 2*dedupChunkKeys),
		maxBytes:   max(maxBytes, 4*dedupChunkBytes),
	}
}

// begin enters a message. If it was entered before, begin returns true, and appends the reply to
// dst if there is one.
func (d *dedup) begin(id dedupID, now time.Duration, dst []byte) (reply []byte, seen bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sweep(now)
	k := id.dedupKey
	if e, ok := d.entries[k]; ok && e.sum == id.sum {
		if e.length > 0 {
			data := d.chunk(e.chunk).data
			dst = append(dst, data[e.offset:int(e.offset)+int(e.length)]...)
		}
		return dst, true
	}
	c := d.open(now, 0)
	d.add(c, k)
	d.entries[k] = dedupEntry{sum: id.sum, chunk: c.number}
	return dst, false
}

// reply stores the reply to a message that begin has entered.
func (d *dedup) reply(id dedupID, now time.Duration, reply []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := id.dedupKey
	e, ok := d.entries[k]
	if !ok || e.sum != id.sum || len(reply) > dedupChunkBytes {
		return
	}
	c := d.open(now, len(reply))
	if c.number != e.chunk {
		d.add(c, k)
	}
	d.entries[k] = dedupEntry{e.sum, c.number, uint16(len(c.data)), uint16(len(reply))}
	c.data = append(c.data, reply...)
	d.bytes += len(reply)
}

// forget removes a message, so that its duplicate counts as new.
func (d *dedup) forget(id dedupID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.entries[id.dedupKey]
	if !ok || e.sum != id.sum {
		return
	}
	delete(d.entries, id.dedupKey)
	// Usually the message was entered just now: a request for a block of a download.
	c := d.chunk(e.chunk)
	for i, least := len(c.keys)-1, max(0, len(c.keys)-forgetReach); i >= least; i-- {
		if c.keys[i] == id.dedupKey {
			c.keys = slices.Delete(c.keys, i, i+1)
			d.keys--
			return
		}
	}
}

func (d *dedup) add(c *dedupChunk, k dedupKey) {
	c.keys = append(c.keys, k)
	d.keys++
}

func (d *dedup) chunk(number uint32) *dedupChunk {
	i := (d.chunks.head + int(number-d.first)) % len(d.chunks.ring)
	return d.chunks.ring[i]
}

// open returns the chunk to write to, with room for n more bytes and a key.
func (d *dedup) open(now time.Duration, n int) *dedupChunk {
	c := d.current
	if c == nil || len(c.data)+n > dedupChunkBytes || len(c.keys) >= dedupChunkKeys || now-c.opened > dedupChunkAge {
		c = &dedupChunk{number: d.first + uint32(d.chunks.len()), opened: now}
		if last := d.current; last != nil { // the next chunk is likely to need as much
			c.keys = make([]dedupKey, 0, len(last.keys))
			c.data = make([]byte, 0, min(len(last.data)+len(last.data)/8, dedupChunkBytes))
		}
		d.chunks.push(c)
		d.current = c
	}
	c.last = max(c.last, now)
	for d.chunks.len() > 1 && (d.keys >= d.maxEntries || d.bytes+n > d.maxBytes) {
		d.drop()
	}
	return c
}

// sweep drops chunks that hold only expired entries.
func (d *dedup) sweep(now time.Duration) {
	for d.chunks.len() > 0 && now-d.chunks.front().last > exchangeLifetime {
		d.drop()
	}
}

// drop drops the oldest chunk.
func (d *dedup) drop() {
	c := d.chunks.pop()
	d.first++
	d.bytes -= len(c.data)
	d.keys -= len(c.keys)
	if d.current == c {
		d.current = nil
	}
	for _, k := range c.keys {
		if e, ok := d.entries[k]; ok && e.chunk == c.number {
			delete(d.entries, k)
		}
	}
	if len(d.entries) == 0 {
		d.entries = make(map[dedupKey]dedupEntry) // a map does not shrink
	}
}

// expire drops expired chunks while no messages come.
func (d *dedup) expire(now time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sweep(now)
}
