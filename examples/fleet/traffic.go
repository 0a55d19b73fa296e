package main

import (
	"sync/atomic"
	"time"
)

// devicesReport holds the counts of a process of devices.
type devicesReport struct {
	Live, Silent    traffic        // since the start
	Versions        map[string]int // number of live devices by running version
	Registers       uint64         // answered Registers
	Updates         uint64         // answered Updates of a registration
	Downloads       uint64         // packages downloaded by HTTP
	DownloadsFailed uint64
	CPU             time.Duration
	Sockets         int
}

// add adds the counts of another process.
func (r *devicesReport) add(o devicesReport) {
	r.Live.add(o.Live)
	r.Silent.add(o.Silent)
	if r.Versions == nil {
		r.Versions = map[string]int{}
	}
	for version, n := range o.Versions {
		r.Versions[version] += n
	}
	r.Registers += o.Registers
	r.Updates += o.Updates
	r.Downloads += o.Downloads
	r.DownloadsFailed += o.DownloadsFailed
	r.CPU += o.CPU
	r.Sockets += o.Sockets
}

// since returns the difference to an earlier report. Versions and Sockets stay as they are.
func (r devicesReport) since(before devicesReport) devicesReport {
	r.Live, r.Silent = r.Live.since(before.Live), r.Silent.since(before.Silent)
	r.Registers -= before.Registers
	r.Updates -= before.Updates
	r.Downloads -= before.Downloads
	r.DownloadsFailed -= before.DownloadsFailed
	r.CPU -= before.CPU
	return r
}

// traffic counts the CoAP messages of devices.
type traffic struct {
	Received, ReceivedBytes uint64
	Sent, SentBytes         uint64
	Repeated                uint64            // repeated requests that were received
	Lost                    uint64            // by -loss, in either direction
	Kinds                   map[string]uint64 // messages of both directions, by request
}

func (t *traffic) add(o traffic) {
	t.Received += o.Received
	t.ReceivedBytes += o.ReceivedBytes
	t.Sent += o.Sent
	t.SentBytes += o.SentBytes
	t.Repeated += o.Repeated
	t.Lost += o.Lost
	if t.Kinds == nil {
		t.Kinds = map[string]uint64{}
	}
	for name, n := range o.Kinds {
		t.Kinds[name] += n
	}
}

// since returns the difference to an earlier count.
func (t traffic) since(before traffic) traffic {
	return traffic{
		t.Received - before.Received, t.ReceivedBytes - before.ReceivedBytes, t.Sent - before.Sent, t.SentBytes - before.SentBytes,
		t.Repeated - before.Repeated, t.Lost - before.Lost, since(t.Kinds, before.Kinds),
	}
}

// counter counts traffic.
type counter struct {
	received, receivedBytes, sent, sentBytes, repeated, lost atomic.Uint64
	kinds                                                    kinds
}

func (c *counter) traffic() traffic {
	return traffic{
		c.received.Load(), c.receivedBytes.Load(), c.sent.Load(), c.sentBytes.Load(), c.repeated.Load(), c.lost.Load(), c.kinds.all(),
	}
}
