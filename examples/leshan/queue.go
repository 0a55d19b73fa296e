package leshan

import (
	"encoding/json"
	"slices"
)

// The bounds of the queue of one device, and of all.
const (
	// keepAll is the number of posts up to which all values of a resource are kept. With more, a
	// newer value replaces one that waits.
	keepAll = 16
	// maxPosts and maxEvents bound the posts of a device, and the registration events among them.
	maxPosts  = 64
	maxEvents = 16
	// maxPost is the largest body of a post in bytes, and maxQueued that of all queues together.
	maxPost   = 64 << 10
	maxQueued = 64 << 20
)

// A post is a request to Django that was not answered yet.
type post struct {
	// Key is the path of what it says. A newer value of a resource has the same key.
	Key       string          `json:"key"`
	Composite bool            `json:"composite,omitempty"`
	Body      json.RawMessage `json:"body"`
}

// The keys of registration events: resources of an object that flownexus invented for them.
const (
	keyRegistered   = "/10240/0/0"
	keyDeregistered = "/10240/0/1"
	keyUpdated      = "/10240/0/2"
)

func (p post) event() bool {
	return p.Key == keyRegistered || p.Key == keyDeregistered || p.Key == keyUpdated
}

// enqueue puts a post at the end of a device's queue, and returns how many others it displaced.
// room is the number of bytes that are left for values in all queues.
func (d *device) enqueue(p post, room int) (dropped int) {
	if len(p.Body) > maxPost {
		return 1
	}
	if p.event() {
		d.mergeEvent(p)
	} else {
		d.mergeValue(p)
		if len(p.Body) > room {
			return 1
		}
	}
	d.Queue = append(d.Queue, p)
	d.bytes += len(p.Body)
	if events := d.count(post.event); events > maxEvents {
		d.drop(slices.IndexFunc(d.Queue, post.event))
		dropped++
	}
	if len(d.Queue) > maxPosts {
		d.drop(slices.IndexFunc(d.Queue, func(p post) bool { return !p.event() }))
		dropped++
	}
	return dropped
}

// mergeEvent removes the last event from the queue if p says the same. Events never change places
// with each other.
func (d *device) mergeEvent(p post) {
	for i, q := range slices.Backward(d.Queue) {
		if q.event() {
			if q.Key == p.Key {
				d.drop(i)
			}
			return
		}
	}
}

// mergeValue removes the values from the queue that p makes stale: of the firmware version and of
// State all, since Django acts on them as if they were true now; of other resources once many posts
// wait. Results stay: each ends an update.
func (d *device) mergeValue(p post) {
	level := p.Key == versionPath.String() || p.Key == statePath.String() && d.queuesDownloaded()
	if p.Key == resultPath.String() || !level && len(d.Queue) < keepAll {
		return
	}
	for i := len(d.Queue) - 1; i >= 0; i-- {
		if d.Queue[i].Key == p.Key && d.Queue[i].Composite == p.Composite {
			d.drop(i)
		}
	}
}

// queuesDownloaded reports whether the queue holds State 2, on which Django sends an Execute.
func (d *device) queuesDownloaded() bool {
	return slices.ContainsFunc(d.Queue, func(p post) bool {
		var single singlePost
		return p.Key == statePath.String() && json.Unmarshal(p.Body, &single) == nil && single.Val.Value == "2"
	})
}

func (d *device) count(of func(post) bool) int {
	n := 0
	for _, p := range d.Queue {
		if of(p) {
			n++
		}
	}
	return n
}

func (d *device) drop(i int) {
	d.bytes -= len(d.Queue[i].Body)
	d.Queue = slices.Delete(d.Queue, i, i+1)
	if len(d.Queue) == 0 {
		d.Queue = nil
	}
}

// singlePost is the body of a post of one resource.
type singlePost struct {
	Endpoint string      `json:"ep"`
	Object   uint16      `json:"obj_id"`
	Val      singleValue `json:"val"`
}

type singleValue struct {
	Kind  kind   `json:"kind"`
	ID    uint16 `json:"id"`
	Type  string `json:"type"`
	Value any    `json:"value"`
}

// compositePost is the body of a post of objects.
type compositePost struct {
	Endpoint string          `json:"ep"`
	Val      map[string]node `json:"val"`
}

// single returns the post of one resource.
func single(key, endpoint string, object uint16, v singleValue) post {
	v.Kind = kindSingle
	return post{Key: key, Body: encode(singlePost{endpoint, object, v})}
}

// composite returns the post of an object, under the path of the object.
func composite(path, endpoint string, object node) post {
	return post{Key: path, Composite: true, Body: encode(compositePost{endpoint, map[string]node{path: object}})}
}

func encode(body any) json.RawMessage {
	data, err := json.Marshal(body)
	if err != nil { // strings and numbers
		panic(err)
	}
	return data
}
