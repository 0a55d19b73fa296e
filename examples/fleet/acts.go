package main

import "sync/atomic"

// acts counts what a device has done for all its updates.
type acts struct {
	Transfers, Executes, Installs uint16
}

// actsReport says what the devices have done.
type actsReport struct {
	Devices      map[string]acts // by endpoint, without those that have done nothing
	Transferring int             // how many downloaded at a time, at most
	Installing   int             // the same of those between Execute and their restart
}

// acts returns what the devices have done.
func (w *world) acts() actsReport {
	r := actsReport{Devices: map[string]acts{}, Transferring: int(w.transferring.most.Load()), Installing: int(w.installing.most.Load())}
	for _, s := range w.shards {
		s.mu.Lock()
		for i := range s.devices {
			if d := &s.devices[i]; d.acts != (acts{}) {
				r.Devices[d.endpoint()] = d.acts
			}
		}
		s.mu.Unlock()
	}
	return r
}

// crowd counts how many devices do something at a time.
type crowd struct{ now, most atomic.Int64 }

func (c *crowd) enter() {
	n := c.now.Add(1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
}

func (c *crowd) leave() { c.now.Add(-1) }
