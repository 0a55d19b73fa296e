package main

import (
	"sync/atomic"
	"time"
)

// devicesReport holds the counts of a process of devices.
type devicesReport struct {
	Live, Silent    traffic           // since the start
	Versions        map[string]int    // number of devices that can succeed, by running version
	Installs        map[string]uint64 // number of installations by version
	Registers       uint64            // answered Registers
	Updates         uint64            // answered Updates of a registration
	Downloads       uint64            // packages downloaded by HTTP
	DownloadsFailed uint64
	Dropped         uint64 // datagrams that did not fit into the buffers of the sockets
	CPU             time.Duration
}

// since returns the difference to an earlier report. Versions and Installs stay as they are.
func (r devicesReport) since(before devicesReport) devicesReport {
	r.Live, r.Silent = r.Live.since(before.Live), r.Silent.since(before.Silent)
	r.Registers -= before.Registers
	r.Updates -= before.Updates
	r.Downloads -= before.Downloads
	r.DownloadsFailed -= before.DownloadsFailed
	r.Dropped -= before.Dropped
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
	kinds                                                    tally[string]
}

func (c *counter) traffic() traffic {
	return traffic{
		c.received.Load(), c.receivedBytes.Load(), c.sent.Load(), c.sentBytes.Load(), c.repeated.Load(), c.lost.Load(), c.kinds.all(),
	}
}
