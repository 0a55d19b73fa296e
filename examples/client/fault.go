package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/firmware/device"
)

// The faults of -fault. Each demonstrates one way in which updates fail in the field.
const (
	faultNoRegister = "no-register-after-update" // the new version does not register, and is rolled back
	faultCrash      = "crash-after-update"       // the new version ends at each start, and is rolled back
	faultVersion    = "keep-version"             // the update succeeds, but 3/0/3 keeps the old version
	faultInstall    = "refuse-install"           // the package is accepted but cannot be installed: Result 8
	faultPackage    = "refuse-package"           // every package is rejected: Result 6
	faultIntegrity  = "refuse-integrity"         // every package counts as damaged: Result 5
	faultStorage    = "no-storage"               // there is no room: Result 2
)

func faultNames() []string {
	return []string{faultNoRegister, faultCrash, faultVersion, faultInstall, faultPackage, faultIntegrity, faultStorage}
}

// faults is the set of faults of -fault.
type faults map[string]bool

// String implements flag.Value.
func (f *faults) String() string { return strings.Join(slices.Sorted(maps.Keys(*f)), ",") }

// Set implements flag.Value.
func (f *faults) Set(value string) error {
	var list cli.List
	if err := list.Set(value); err != nil {
		return err
	}
	if *f == nil {
		*f = faults{}
	}
	for _, name := range list {
		if !slices.Contains(faultNames(), name) {
			return fmt.Errorf("no fault %q: there are %s", name, strings.Join(faultNames(), ", "))
		}
		(*f)[name] = true
	}
	return nil
}

// installer is an installer with faults, and a hook for Confirm.
type installer struct {
	device.Installer
	faults    faults
	confirmed func() // called after a version was confirmed
}

func (i installer) OpenPackage(ctx context.Context, offset, size int64) (device.PackageWriter, error) {
	if i.faults[faultStorage] {
		return nil, device.ErrNoStorage
	}
	return i.Installer.OpenPackage(ctx, offset, size)
}

func (i installer) Verify(ctx context.Context) (device.PackageInfo, error) {
	if i.faults[faultPackage] {
		return device.PackageInfo{}, device.ErrUnsupportedPackage
	}
	if i.faults[faultIntegrity] {
		return device.PackageInfo{}, device.ErrIntegrity
	}
	return i.Installer.Verify(ctx)
}

func (i installer) Apply(ctx context.Context) (bool, error) {
	if i.faults[faultInstall] {
		return false, device.ErrUpdateFailed
	}
	return i.Installer.Apply(ctx)
}

func (i installer) Confirm(ctx context.Context) error {
	err := i.Installer.Confirm(ctx)
	if err == nil && i.confirmed != nil {
		i.confirmed()
	}
	return err
}
