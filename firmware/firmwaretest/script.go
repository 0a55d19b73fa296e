package firmwaretest

import (
	"context"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// Script is what a device is and does. The zero value is a device without a version. It pulls
// packages at once and installs them without effect: nothing about it changes.
type Script struct {
	// Version is 3/0/3 until an installation changes it; "" for a device without that resource.
	Version string
	// Device is what Object 3 shows beside the version: manufacturer, model and others. Default:
	// nothing.
	Device lwm2m.DeviceObjectConfig
	// Delivery is 5/0/9. Default: PullOnly, which is 0; a manager without a Delivery needs PushOnly
	// or PushAndPull.
	Delivery fsm.DeliverySupport
	// Protocols is 5/0/8; nil for a device without that resource.
	Protocols []fsm.Protocol

	// Pull downloads uri and returns 0, or the Result of the failure. It may be called several
	// times. Default: wait for PullTime, and succeed.
	Pull     func(ctx context.Context, uri string) fsm.Result
	PullTime time.Duration
	// Pushed returns the Result for a pushed package. Default: 0, it is good.
	Pushed func(size int64) fsm.Result
	// PkgName and PkgVersion are 5/0/6 and 5/0/7 while a package is there; "" for a device without
	// them.
	PkgName, PkgVersion string
	// Install is the effect of Execute.
	Install Install

	Habits Habits
}

// Install says how the device installs a package.
type Install struct {
	// Time passes in State Updating before anything else.
	Time time.Duration
	// Version is the version that runs afterwards. Default: the one that ran before.
	Version string
	// Result is shown afterwards. Default: Success if Version is set, and UpdateFailed otherwise.
	Result fsm.Result
	// NoReboot: the device goes on without a restart.
	NoReboot bool
	// BootTime passes between the restart and the new registration.
	BootTime time.Duration
	// Silent: the device never comes back and sends nothing, because its new version does not
	// start, or has lost its address or its keys. With ClientConfig.Queue it seems asleep to the
	// server, and does not wake.
	Silent bool
	// Kept: after a failed installation the package stays, in State Downloaded.
	Kept bool
	// Forgets: the device has forgotten State and Result when it is back.
	Forgets bool
	// Late: State and Result are 0 when the device is back, and Result follows after this time.
	Late time.Duration
	// RollsBack: this long after the device is back, it restarts with the old version and Result
	// UpdateFailed.
	RollsBack time.Duration
}
