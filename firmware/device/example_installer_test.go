package device_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/firmware/fsm"
)

// partitions is an Installer for a device with two partitions for firmware, of which one runs. Here
// they are the files a and b; a real one would have them in flash. A package is a line with a
// version, the program, and the SHA-256 of both.
type partitions struct {
	dir     string
	boot    bootRecord
	running string // the partition that runs, "" for the firmware that the device was made with
}

// capacity is the size of a partition.
const capacity = 1 << 20

// bootRecord is what the boot loader knows. It is the file boot.
type bootRecord struct {
	Active   string      // the partition that starts when there is no trial
	Trial    string      // the partition that starts instead, "" if there is no trial
	Starts   int         // of Trial
	Outcome  fsm.Install // of the last trial
	Verified string      // the version of the package in the spare partition, "" if it is not verified
	Versions map[string]string
}

// startPartitions does what the boot loader and the start of the firmware do.
func startPartitions(dir string) (*partitions, error) {
	p := &partitions{dir: dir}
	data, err := os.ReadFile(p.path("boot"))
	if err == nil {
		err = json.Unmarshal(data, &p.boot)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	switch next := p.boot; {
	case next.Trial == "":
	case next.Starts == 3:
		err = p.giveUp()
	default:
		next.Starts++
		err = p.change(next)
	}
	p.running = cmp.Or(p.boot.Trial, p.boot.Active)
	return p, ignoreMissing(err)
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (p *partitions) path(name string) string { return filepath.Join(p.dir, name) }

// version returns the version that runs.
func (p *partitions) version() string { return cmp.Or(p.boot.Versions[p.running], "1.0.0") }

// spare returns the partition for packages.
func (p *partitions) spare() string {
	if p.boot.Active == "a" {
		return "b"
	}
	return "a"
}

// change makes a boot record durable, then current.
func (p *partitions) change(next bootRecord) error {
	data, err := json.Marshal(next)
	if err == nil {
		err = p.replace("boot", data)
	}
	if err == nil {
		p.boot = next
	}
	return err
}

// replace replaces a file as a whole.
func (p *partitions) replace(name string, data []byte) error {
	f, err := os.Create(p.path(name + ".new"))
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(p.path(name+".new"), p.path(name)); err != nil {
		return err
	}
	return p.syncNames()
}

// syncNames makes the names of the files durable.
func (p *partitions) syncNames() error {
	d, err := os.Open(p.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (p *partitions) LoadState(context.Context) ([]byte, error) {
	record, err := os.ReadFile(p.path("record"))
	return record, ignoreMissing(err)
}

func (p *partitions) SaveState(_ context.Context, record []byte) error {
	return p.replace("record", record)
}

func (p *partitions) Status(context.Context) (device.InstallerStatus, error) {
	s := device.InstallerStatus{Install: p.boot.Outcome, Verified: p.boot.Verified != ""}
	if p.boot.Trial != "" {
		s.Install = fsm.InstallUnknown
		if p.running == p.boot.Trial {
			s.Install = fsm.InstallPending
		}
	}
	stat, err := os.Stat(p.path(p.spare()))
	if err == nil {
		s.Staged = stat.Size()
	}
	return s, ignoreMissing(err)
}

func (p *partitions) OpenPackage(_ context.Context, offset, size int64) (device.PackageWriter, error) {
	switch {
	case p.boot.Trial != "" || p.running == p.spare():
		return nil, errors.New("the spare partition is in use")
	case size > capacity:
		return nil, device.ErrNoStorage
	}
	next := p.boot // forget that the package was verified before it changes
	next.Verified, next.Outcome = "", fsm.InstallUnknown
	if err := p.change(next); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(p.path(p.spare()), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	stat, err := f.Stat()
	if err == nil && stat.Size() < offset {
		err = fmt.Errorf("%d bytes are stored, not %d", stat.Size(), offset)
	}
	if err == nil {
		err = f.Truncate(offset)
	}
	if err == nil {
		_, err = f.Seek(offset, 0)
	}
	if err = errors.Join(err, p.syncNames()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &partitionWriter{f, offset}, nil
}

type partitionWriter struct {
	*os.File
	at int64
}

func (w *partitionWriter) Write(b []byte) (int, error) {
	if w.at+int64(len(b)) > capacity {
		return 0, device.ErrNoStorage
	}
	n, err := w.File.Write(b)
	w.at += int64(n)
	return n, err
}

func (w *partitionWriter) Sync() (int64, error) { return w.at, w.File.Sync() }

func (p *partitions) Verify(ctx context.Context) (device.PackageInfo, error) {
	pkg, err := os.ReadFile(p.path(p.spare()))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return device.PackageInfo{}, device.ErrUnsupportedPackage
	case err != nil:
		return device.PackageInfo{}, err
	case ctx.Err() != nil:
		return device.PackageInfo{}, ctx.Err()
	}
	content, sum, ok := cutSum(pkg)
	version, _, line := bytes.Cut(content, []byte("\n"))
	if !ok || !line {
		return device.PackageInfo{}, device.ErrIntegrity
	}
	next := p.boot
	next.Verified = string(version)
	info := device.PackageInfo{Name: "sensor", Version: string(version), Size: int64(len(pkg)), Digest: fmt.Sprintf("%x", sum)}
	return info, p.change(next)
}

// cutSum splits a package into its content and the digest behind it, and checks the digest.
func cutSum(pkg []byte) (content, sum []byte, ok bool) {
	if len(pkg) < sha256.Size {
		return nil, nil, false
	}
	content, sum = pkg[:len(pkg)-sha256.Size], pkg[len(pkg)-sha256.Size:]
	want := sha256.Sum256(content)
	return content, sum, bytes.Equal(want[:], sum)
}

func (p *partitions) Discard(context.Context) error {
	if p.boot.Trial != "" || p.running == p.spare() {
		return nil
	}
	next := p.boot
	next.Verified = ""
	if err := p.change(next); err != nil {
		return err
	}
	if err := ignoreMissing(os.Remove(p.path(p.spare()))); err != nil {
		return err
	}
	return p.syncNames()
}

func (p *partitions) Apply(context.Context) (restart bool, err error) {
	switch {
	case p.boot.Trial != "":
		return true, nil
	case p.boot.Verified == "":
		return false, device.ErrIntegrity
	}
	next := p.boot
	next.Trial, next.Starts = p.spare(), 0
	next.Versions = map[string]string{p.boot.Active: p.boot.Versions[p.boot.Active], next.Trial: p.boot.Verified}
	return true, p.change(next)
}

func (p *partitions) Confirm(context.Context) error {
	if p.boot.Trial == "" {
		return nil
	}
	next := p.boot
	next.Active, next.Trial, next.Verified, next.Outcome = p.boot.Trial, "", "", fsm.InstallSucceeded
	return p.change(next)
}

func (p *partitions) Rollback(context.Context) error {
	if p.boot.Trial == "" {
		return nil
	}
	return p.giveUp()
}

// giveUp ends a trial without success.
func (p *partitions) giveUp() error {
	next := p.boot
	next.Trial, next.Verified, next.Outcome = "", "", fsm.InstallFailed
	return p.change(next)
}

// An Installer of a device with two partitions. It passes devicetest.RunInstaller.
func ExampleInstaller() {
	dir, err := os.MkdirTemp("", "partitions")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	flash, err := startPartitions(dir)
	if err != nil {
		panic(err)
	}
	ota, err := device.New(flash, device.Config{Delivery: fsm.DeliveryPush})
	if err != nil {
		panic(err)
	}
	object, err := ota.State(context.Background()) // ota.Object() goes to lwm2m.NewClient
	fmt.Println(flash.version(), object.State, err)
	// Output: 1.0.0 idle <nil>
}
