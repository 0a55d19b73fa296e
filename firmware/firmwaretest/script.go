package firmwaretest

import (
	"context"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// Script is what a device is and does. The zero value is a device without a version that takes
// pushed and pulled packages at once and installs them in vain: nothing about it changes.
type Script struct {
	// Version is what 3/0/3 says until an installation changes it; "" for a device without that
	// resource.
	Version string
	// Delivery is 5/0/9. Default: PullOnly, which is 0.
	Delivery fsm.DeliveryMethod
	// Protocols is 5/0/8; nil for a device without that resource.
	Protocols []fsm.Protocol

	// Pull downloads uri and returns 0, or how that failed. It may be called several times.
	// Default: wait for PullTime, and succeed.
	Pull     func(ctx context.Context, uri string) fsm.Result
	PullTime time.Duration
	// Pushed judges a package that was pushed. Default: 0, it is good.
	Pushed func(size int64) fsm.Result
	// PkgName and PkgVersion are 5/0/6 and 5/0/7 while a package is there; "" for a device without
	// them.
	PkgName, PkgVersion string
	// Install is what Execute leads to.
	Install Install

	Habits Habits
}

// Install is what happens when the package is to be installed.
type Install struct {
	// Time passes in State Updating before anything else.
	Time time.Duration
	// Version is what runs afterwards. Default: what ran before.
	Version string
	// Result is shown afterwards. Default: Success if Version is set, else UpdateFailed.
	Result fsm.Result
	// NoReboot: the device goes on without a restart.
	NoReboot bool
	// BootTime passes between the restart and the new registration.
	BootTime time.Duration
	// Silent: the device never comes back and never says so: its new version does not start, or has
	// lost its address or its keys. With ClientConfig.Queue it is asleep, for all that the server
	// knows, and does not wake.
	Silent bool
	// Kept: an installation that failed leaves the package, in State Downloaded.
	Kept bool
	// Forgets: the device has forgotten State and Result when it is back.
	Forgets bool
	// Late: State and Result are 0 when the device is back, and Result follows after that time.
	Late time.Duration
	// RollsBack: some time after the device is back it restarts with the old version, and Result
	// UpdateFailed.
	RollsBack time.Duration
}
