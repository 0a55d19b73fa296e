package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// usage is the resource usage of a process. Values that the system does not report are 0.
type usage struct {
	User, System   time.Duration // processor time
	RSS, PeakRSS   uint64        // bytes
	PeakGoroutines uint64
	AllocatedBytes uint64
	Allocations    uint64
	StorageWrites  uint64 // bytes written to the disk
}

// cpu returns all processor time.
func (u usage) cpu() time.Duration { return u.User + u.System }

// since returns the usage after before. RSS and peaks stay as they are.
func (u usage) since(before usage) usage {
	u.User -= before.User
	u.System -= before.System
	u.AllocatedBytes -= before.AllocatedBytes
	u.Allocations -= before.Allocations
	u.StorageWrites -= before.StorageWrites
	return u
}

// meter measures this process.
type meter struct {
	goroutines atomic.Uint64 // maximum
}

// watch samples the number of goroutines until ctx ends.
func (m *meter) watch(ctx context.Context) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	sample := []metrics.Sample{{Name: "/sched/goroutines:goroutines"}}
	for {
		metrics.Read(sample)
		m.goroutines.Store(max(m.goroutines.Load(), sample[0].Value.Uint64()))
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// usage returns the usage since the start of the process.
func (m *meter) usage() usage {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/allocs:objects"}}
	metrics.Read(samples)
	u := usage{
		PeakGoroutines: m.goroutines.Load(),
		AllocatedBytes: samples[0].Value.Uint64(),
		Allocations:    samples[1].Value.Uint64(),
		RSS:            procNumber("/proc/self/status", "VmRSS:") << 10,
		StorageWrites:  procNumber("/proc/self/io", "write_bytes:"),
	}
	u.User, u.System, u.PeakRSS = resources()
	return u
}

// cpuTime returns the processor time of this process.
func cpuTime() time.Duration {
	user, system, _ := resources()
	return user + system
}

// procNumber returns the number after a word in a file of Linux's /proc, or 0 if there is none.
func procNumber(path, word string) uint64 {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		fields := bytes.Fields(lines.Bytes())
		if len(fields) >= 2 && string(fields[0]) == word {
			n, _ := strconv.ParseUint(string(fields[1]), 10, 64)
			return n
		}
	}
	return 0
}

// profiles are files for profiles of a process, "" for none.
type profiles struct{ CPU, Memory string }

// cpuFile is the file of the processor's profile, while one is written.
var cpuFile *os.File

// start starts the profile of the processor, unless it runs.
func (p profiles) start() error {
	if p.CPU == "" || cpuFile != nil {
		return nil
	}
	f, err := os.Create(p.CPU)
	if err != nil {
		return err
	}
	cpuFile = f
	return pprof.StartCPUProfile(f)
}

// stop writes the profiles.
func (p profiles) stop() error {
	if cpuFile != nil {
		pprof.StopCPUProfile()
		if err := cpuFile.Close(); err != nil {
			return err
		}
	}
	if p.Memory == "" {
		return nil
	}
	f, err := os.Create(p.Memory)
	if err != nil {
		return err
	}
	runtime.GC() // what is in use is of the last collection
	return errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}

// stateReport is the state of a server.
type stateReport struct {
	Memory    uint64 // anonymous memory in RAM, bytes
	Collected uint64 // the same after a collection that returned what is free to the system
	Dropped   uint64 // datagrams that did not fit into the buffer of its socket
	Stored    uint64 // registrations and refreshes of their lifetimes
	Commits   uint64
	Failed    uint64        // commits
	Busy      time.Duration // with commits
	Last      uint64        // number of the last line of the journal
}

// stateOf returns the state of this process, which listens at a UDP address.
func stateOf(local net.Addr, collect bool) stateReport {
	r := stateReport{Memory: anonymous(), Dropped: dropped(local.(*net.UDPAddr).AddrPort().Port())}
	if collect {
		debug.FreeOSMemory()
	}
	r.Collected = anonymous()
	return r
}

// anonymous returns the anonymous memory of this process in RAM, in bytes.
func anonymous() uint64 { return procNumber("/proc/self/status", "RssAnon:") << 10 }

// dropped returns how many datagrams the kernel has dropped since the sockets at a UDP port of this
// machine were opened, because they did not fit into their buffers. It is 0 where it is unknown.
func dropped(port uint16) uint64 {
	content, err := os.ReadFile("/proc/net/udp")
	if err != nil {
		return 0
	}
	var sum uint64
	want := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) > 12 && strings.HasSuffix(f[1], want) {
			n, _ := strconv.ParseUint(f[len(f)-1], 10, 64)
			sum += n
		}
	}
	return sum
}
