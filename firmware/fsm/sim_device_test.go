package fsm_test

import (
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// habits are the differences between kinds of clients.
type habits struct {
	name string
	plan fsm.Plan

	object bool // the device machine of this package; most habits do not apply

	pushShown   bool // State 1 is seen during a push
	stateFirst  bool // State 0 is set some time before the Result
	ram         bool // State, Result and package are lost with a reboot
	deafToReset bool // ignores an empty URI in State 1
	stuckPush   bool // a push that broke off leaves State 1 for ever
	inline      bool // answers the URI after the download; State 1 is never seen
	inPlace     bool // installs without a reboot
	constant    bool // 3/0/3 never changes
	silent      bool // never notifies
	stub        bool // boots in State 1 and stays there
	auto        bool // updates without Execute
	dead        bool // never comes back from an update
	queue       bool // also a dead one is in queue mode, as all others are
	oldAgain    bool // comes back with the old version
	mute        bool // reports no Result after the update
	liar        bool // reports success without installing
	early       bool // answers for some time after a restart before it registers

	quick       bool // a download that fails shows only as a Result
	locks       bool // answers 5.03 for 5 min after a push that broke off
	keepsResult bool // an empty URI in State 0 does not clear the Result

	foreign  bool   // it holds another package in State 2 at the start
	whenFull string // what it does with a URI in State 2, where it stays: it "refuses", "ignores" or "fetches" it
	other    bool   // another server's transfer ends a minute after the start, whatever this server writes
	races    bool   // another server begins a transfer just before our first write
	lists    bool   // 5/0/14 is true: it updates without Execute
	noObject bool   // it answers 4.04 to Read 5/0/3
	nonsense bool   // 5/0/3 shows 43
	vanishes bool   // the new firmware has no Object 5
	model    string // 3/0/1; "" if it does not say

	holds    []fsm.Hold
	releases []release

	stale         fsm.Result   // Result before the update
	downloadFails []fsm.Result // of the first downloads
	installFails  []fsm.Result // of the first installations; the package is kept
	restartFails  []fsm.Result // of the first installations, after a restart; the package is kept

	// expect lists the outcomes that are right whatever is lost or crashes.
	expect []fsm.Outcome
}

// A release ends a hold some time after the start.
type release struct {
	after  time.Duration
	holder string
}

// peer is a device in a simulation.
type peer interface {
	// reachable reports whether the device answers at all.
	reachable() bool
	// carryOut carries out a request, and answers it. CodeNone: the device rebooted meanwhile.
	carryOut(a fsm.Action) (fsm.Code, fsm.Reading)
	// breakPush is a push of which only the first blocks arrive.
	breakPush()
	// reboot takes the device off the network and brings it back.
	reboot()
	// doze takes the device off the network for d; it forgets nothing.
	doze(d time.Duration)
	// forget drops the observations of a server that died.
	forget()
	// truth says what really happened.
	truth() truth
}

// truth is what a device really did.
type truth struct {
	version  string // that runs
	boots    int
	began    int // installations begun
	installs int // installations that put the new version in place
}

// client is a scripted device.
type client struct {
	habits
	sim      *sim
	state    fsm.State
	result   fsm.Result
	version  string
	ours     bool // the package in State 2 is the one of the update
	overtook bool // another server was faster
	up       bool
	observed bool
	bootNo   int // events of an earlier boot do not happen
	installs int
	began    int
	locked   time.Time // answers 5.03 until then
}

func (c *client) reachable() bool { return c.up }
func (c *client) forget()         { c.observed = false }

func (c *client) doze(d time.Duration) {
	c.up = false
	c.later(d, func() {
		c.up = true
		c.sim.observe(fsm.Observation{Kind: fsm.ObserveAwake})
	})
}

func (c *client) truth() truth {
	return truth{version: c.version, boots: c.bootNo, began: c.began, installs: c.installs}
}

const (
	oldVersion = "1.0.0"
	newVersion = "1.1.0"
	restart    = 5 * time.Second
	// quickRestart is the restart of a device that answers before it registers.
	quickRestart = time.Second / 2
	download     = 20 * time.Second
)

func newPeer(s *sim, h habits) peer {
	if h.object {
		return newDevice(s, h)
	}
	return newClient(s, h)
}

func newClient(s *sim, h habits) *client {
	c := &client{habits: h, sim: s, version: oldVersion, result: h.stale, up: true}
	switch {
	case c.stub:
		c.state = fsm.Downloading
	case c.foreign:
		c.state = fsm.Downloaded
	case c.other:
		c.state = fsm.Downloading
		c.later(time.Minute, func() { c.set(fsm.Downloaded, fsm.ResultDefault) })
	}
	return c
}

// later runs fn unless the device reboots before.
func (c *client) later(d time.Duration, fn func()) {
	boot := c.bootNo
	c.sim.after(d, func() {
		if c.bootNo == boot {
			fn()
		}
	})
}

// set changes State and Result and notifies, once, of what changed. It reports false if the device
// rebooted meanwhile.
func (c *client) set(state fsm.State, result fsm.Result) bool {
	boot := c.bootNo
	changed := c.state != state || c.result != result
	if c.stateFirst && c.state != state && result != fsm.ResultDefault {
		c.state, c.result = state, fsm.ResultDefault
		c.notify()
		c.later(3*time.Second, func() {
			c.result = result
			c.notify()
		})
		return boot == c.bootNo
	}
	c.state, c.result = state, result
	if changed {
		c.notify()
	}
	return boot == c.bootNo
}

func (c *client) notify() {
	if !c.up || !c.observed || c.silent {
		return
	}
	switch c.sim.choose("notification", "delivered", "lost", "reboot") {
	case 0:
		c.sim.observe(fsm.Observation{Kind: fsm.ObserveHint, Reading: fsm.Reading{State: fsm.Known(c.state)}})
	case 2:
		c.reboot()
	}
}

func (c *client) reboot() {
	c.bootNo++
	c.up, c.observed, c.locked = false, false, time.Time{}
	if c.dead && c.began > 0 {
		return
	}
	switch {
	case c.stub:
		c.state, c.result = fsm.Downloading, fsm.ResultDefault
	case c.state == fsm.Updating:
		c.finish()
	case c.ram:
		c.state, c.result = fsm.Idle, fsm.ResultDefault
	case c.state == fsm.Downloading:
		c.state, c.result = fsm.Idle, fsm.ResultConnectionLost
	}
	c.ours = c.ours && c.state == fsm.Downloaded
	if c.early {
		c.later(quickRestart, func() { c.up = true })
	}
	c.later(restart, func() {
		c.up = true
		c.sim.observe(fsm.Observation{Kind: fsm.ObserveRegistered})
	})
}

// finish is the boot after an installation.
func (c *client) finish() {
	for _, fails := range []*[]fsm.Result{&c.installFails, &c.restartFails} {
		if len(*fails) > 0 {
			c.state, c.result = fsm.Downloaded, (*fails)[0]
			*fails = (*fails)[1:]
			return
		}
	}
	c.state = fsm.Idle
	c.result = fsm.ResultSuccess
	if c.oldAgain {
		c.result = fsm.ResultUpdateFailed
	} else if !c.liar {
		c.installs++
		if !c.constant {
			c.version = c.plan.Target
		}
	}
	if c.ram || c.mute {
		c.result = fsm.ResultDefault
	}
}

func (c *client) read() fsm.Reading {
	r := fsm.Reading{
		State: fsm.Known(c.state), Result: fsm.Known(c.result), Version: fsm.Known(c.version),
		Protocols: fsm.Known([]fsm.Protocol{fsm.ProtocolCoAP, fsm.ProtocolHTTP}),
		Delivery:  fsm.Known(fsm.PushAndPull),
		Auto:      fsm.Known(c.lists),
		Device:    fsm.Known(fsm.Compatible{Model: c.model}),
		Offers:    []fsm.Protocol{fsm.ProtocolCoAP, fsm.ProtocolHTTP},
		MaxDefer:  fsm.Refused[time.Duration](fsm.CodeNotFound),
	}
	switch {
	case c.stub:
		r.Delivery = fsm.Known(fsm.PushOnly)
	case c.noObject, c.vanishes && c.version == c.plan.Target:
		r = fsm.Reading{Version: r.Version, State: fsm.Refused[fsm.State](fsm.CodeNotFound)}
	case c.nonsense:
		r.State = fsm.Known(fsm.State(43))
	}
	return r
}

func (c *client) carryOut(a fsm.Action) (fsm.Code, fsm.Reading) {
	if c.sim.now.Before(c.locked) {
		return fsm.CodeServiceUnavailable, fsm.Reading{
			State: fsm.Refused[fsm.State](fsm.CodeServiceUnavailable),
		}
	}
	switch a.Kind {
	case fsm.ActionRead:
		return fsm.CodeContent, c.read()
	case fsm.ActionObserve:
		c.observed = true
		return fsm.CodeContent, fsm.Reading{State: c.read().State}
	case fsm.ActionReset:
		return c.reset(), fsm.Reading{}
	case fsm.ActionWriteURI:
		return c.writeURI(), fsm.Reading{}
	case fsm.ActionPush:
		return c.push(), fsm.Reading{}
	case fsm.ActionExecute:
		return c.execute(), fsm.Reading{}
	case fsm.ActionCancel:
		code := fsm.CodeMethodNotAllowed
		if c.state == fsm.Downloading || c.state == fsm.Downloaded || a.Reset == fsm.ResetEmptyURI {
			code = c.reset()
		}
		return code, c.read()
	}
	return fsm.CodeNotFound, fsm.Reading{}
}

func (c *client) reset() fsm.Code {
	switch {
	case c.stub, (c.deafToReset || c.other && c.boots0()) && c.state == fsm.Downloading, c.keepsResult && c.state == fsm.Idle:
		return fsm.CodeChanged
	case c.state == fsm.Updating:
		return fsm.CodeMethodNotAllowed
	}
	c.bootNo++ // ends everything under way
	c.ours = false
	c.set(fsm.Idle, fsm.ResultDefault)
	return fsm.CodeChanged
}

// overtaken lets another server be faster, once.
func (c *client) overtaken() bool {
	if !c.races {
		return false
	}
	c.races, c.overtook = false, true
	c.state, c.result = fsm.Downloading, fsm.ResultDefault
	c.later(time.Minute, func() { c.set(fsm.Downloaded, fsm.ResultDefault) })
	return true
}

// boots0 reports whether nothing has ended the other server's transfer.
func (c *client) boots0() bool { return c.bootNo == 0 }

func (c *client) writeURI() fsm.Code {
	if c.stub {
		return fsm.CodeChanged
	}
	switch {
	case c.overtaken():
		return fsm.CodeBadRequest
	case c.state == fsm.Downloaded && c.whenFull == "ignores":
		return fsm.CodeChanged
	case c.state == fsm.Downloaded && c.whenFull == "fetches":
		c.later(download, func() {
			c.ours = true
			c.sim.observe(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 1000})
		})
		return fsm.CodeChanged
	case c.state != fsm.Idle:
		return fsm.CodeBadRequest
	}
	if c.inline {
		// The download takes place before the answer; no read shows it.
		c.result = fsm.ResultDefault
		c.sim.observe(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 500})
		c.later(time.Second, c.downloaded)
		return fsm.CodeChanged
	}
	if c.quick && len(c.downloadFails) > 0 {
		c.later(time.Second, c.downloaded)
		return fsm.CodeChanged
	}
	c.later(time.Second, func() {
		if !c.set(fsm.Downloading, fsm.ResultDefault) {
			return
		}
		c.later(download/2, func() { c.sim.observe(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 500}) })
		c.later(download, c.downloaded)
	})
	return fsm.CodeChanged
}

func (c *client) push() fsm.Code {
	switch {
	case c.stub:
		return fsm.CodeChanged
	case c.overtaken():
		return fsm.CodeMethodNotAllowed
	case c.state == fsm.Downloading && c.stuckPush:
	case c.state != fsm.Idle:
		return fsm.CodeMethodNotAllowed
	}
	if c.pushShown && !c.set(fsm.Downloading, fsm.ResultDefault) {
		return fsm.CodeNone
	}
	c.later(time.Second, c.downloaded)
	return fsm.CodeChanged
}

func (c *client) breakPush() {
	if c.stub || c.state != fsm.Idle {
		return
	}
	c.result = fsm.ResultDefault
	if c.pushShown && !c.set(fsm.Downloading, fsm.ResultDefault) {
		return
	}
	if c.locks {
		c.locked = c.sim.now.Add(5 * time.Minute)
	}
	if !c.stuckPush {
		c.later(5*time.Minute, func() { c.set(fsm.Idle, fsm.ResultConnectionLost) })
	}
}

func (c *client) downloaded() {
	if len(c.downloadFails) > 0 {
		result := c.downloadFails[0]
		c.downloadFails = c.downloadFails[1:]
		c.set(fsm.Idle, result)
		return
	}
	c.ours = true
	if c.set(fsm.Downloaded, fsm.ResultDefault) && (c.auto || c.lists) {
		c.later(time.Second, func() { c.execute() })
	}
}

func (c *client) execute() fsm.Code {
	if c.stub || c.state != fsm.Downloaded {
		return fsm.CodeMethodNotAllowed
	}
	// Another server of the device cannot be excluded, unless this server got the device's refusal.
	unheard := c.overtook && !c.sim.ledger.refused
	c.sim.check(c.ours || unheard, "invariant 1: a package is executed that is not the update's")
	c.began++
	if !c.set(fsm.Updating, fsm.ResultDefault) {
		return fsm.CodeNone
	}
	c.later(time.Second, func() {
		switch {
		case len(c.installFails) > 0:
			result := c.installFails[0]
			c.installFails = c.installFails[1:]
			c.set(fsm.Downloaded, result)
		case c.inPlace:
			c.installs++
			if !c.constant {
				c.version = c.plan.Target
			}
			c.set(fsm.Idle, fsm.ResultSuccess)
		default:
			c.reboot()
		}
	})
	return fsm.CodeChanged
}
