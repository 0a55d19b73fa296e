package interop_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// Each of these benchmarks measures several programs in turn, round after round; an iteration is
// one round of each. The benchmarks report medians: the program's processor time (including the
// kernel's), the elapsed time, and how many times as fast ours is as another, by either.

// measurement is the time per operation in one round of one program.
type measurement struct{ computed, passed time.Duration }

// contest holds the rounds of all programs.
type contest struct {
	b      *testing.B
	ops    int
	rounds map[string][]measurement
}

// round measures one program while f runs.
func (c *contest) round(name string, p *process, f func()) {
	computed, began := p.cpuTime(c.b), time.Now()
	f()
	passed := time.Since(began)
	computed = p.cpuTime(c.b) - computed
	if c.rounds == nil {
		c.rounds = make(map[string][]measurement)
	}
	ops := time.Duration(c.ops)
	c.rounds[name] = append(c.rounds[name], measurement{computed * 1000 / ops, passed * 1000 / ops})
}

// report reports the results of all programs, and compares ours with the others.
func (c *contest) report() {
	c.b.ReportMetric(0, "ns/op") // says nothing here
	computed := func(m measurement) float64 { return float64(m.computed) / 1e6 }
	passed := func(m measurement) float64 { return float64(m.passed) / 1e6 }
	for name, rounds := range c.rounds {
		c.b.ReportMetric(median(rounds, computed), name+"-cpu-µs")
		c.b.ReportMetric(median(rounds, passed), name+"-µs")
		if name == "otago" {
			continue
		}
		ours := c.rounds["otago"]
		ratio := func(f func(measurement) float64) float64 {
			var all []float64
			for i := range rounds {
				all = append(all, f(rounds[i])/f(ours[i]))
			}
			return median(all, func(v float64) float64 { return v })
		}
		c.b.ReportMetric(ratio(computed), "x-"+name+"-cpu")
		c.b.ReportMetric(ratio(passed), "x-"+name)
	}
}

func median[T any](of []T, f func(T) float64) float64 {
	var all []float64
	for _, v := range of {
		all = append(all, f(v))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// libcoapServer starts libcoap's server with the same resources.
func libcoapServer(b *testing.B) (*process, netip.AddrPort) {
	b.Helper()
	cmd, at := libcoapServerCommand(b)
	p := startOn(b, measured, cmd)
	awaitCoAP(b, p, at)
	e, to := dial(b, at, coap.Config{})
	put(b, e, to, &coap.Request{Path: []string{smallPath}, Payload: []byte(smallText)})
	put(b, e, to, &coap.Request{Path: []string{imagePath}, Payload: bodyOf(imageSize)})
	return p, at
}

// BenchmarkSmallRequest uses 64 clients with 2 requests in progress each.
func BenchmarkSmallRequest(b *testing.B) {
	const requests = 40_000
	lib, libAt := libcoapServer(b)
	ours, theirs := startActor(b, measured, "otago"), startActor(b, measured, "go-coap")
	loader := startActor(b, loading, "load")
	c := &contest{b: b, ops: requests}
	for b.Loop() {
		c.round("libcoap", lib, func() { loader.order("small %v %d", libAt, requests) })
		c.round("otago", ours.process, func() { loader.order("small %s %d", ours.ready, requests) })
		c.round("go-coap", theirs.process, func() { loader.order("small %s %d", theirs.ready, requests) })
	}
	c.report()
}

// BenchmarkPull makes 200 devices fetch 1 MiB each by Block2.
func BenchmarkPull(b *testing.B) {
	lib, libAt := libcoapServer(b)
	ours := startActor(b, measured, "otago")
	loader := startActor(b, loading, "load")
	c := &contest{b: b, ops: devices * imageSize / blockSize}
	for b.Loop() {
		c.round("libcoap", lib, func() { loader.order("pull %v %d", libAt, devices) })
		before := ours.stats().allocated
		c.round("otago", ours.process, func() { loader.order("pull %s %d", ours.ready, devices) })
		b.ReportMetric(float64(ours.stats().allocated-before)/float64(c.ops), "otago-B/block")
	}
	c.report()
}

// BenchmarkPush pushes 1 MiB to 200 devices each by Block1.
func BenchmarkPush(b *testing.B) {
	ours, theirs := startActor(b, measured, "otago"), startActor(b, measured, "go-coap")
	devs := startActor(b, loading, "sink").ready
	c := &contest{b: b, ops: devices * imageSize / blockSize}
	for b.Loop() {
		for name, a := range map[string]*actor{"otago": ours, "go-coap": theirs} {
			before := a.stats().allocated
			c.round(name, a.process, func() { a.order("push %s", devs) })
			b.ReportMetric(float64(a.stats().allocated-before)/float64(c.ops), name+"-B/block")
		}
	}
	require.Less(b, ours.stats().heap, int64(8*imageSize), "the image is in memory once")
	c.report()
}

// BenchmarkIdlePeers measures the memory of our server after requests from 100,000 peers, and of
// go-coap's after requests from 10,000.
func BenchmarkIdlePeers(b *testing.B) {
	loader := startActor(b, loading, "load")
	for b.Loop() {
		for name, n := range map[string]int{"otago": 100_000, "go-coap": 10_000} {
			a := startActor(b, measured, name)
			loader.order("small %s %d", a.ready, 6400)
			goroutines, before := a.stats().goroutines, a.resident(b)
			loader.order("meet %s %d", a.ready, n)
			b.ReportMetric(float64(a.resident(b)-before)/float64(n), name+"-B/peer")
			b.ReportMetric(float64(a.stats().goroutines-goroutines)/float64(n), name+"-goroutines/peer")
		}
	}
	b.ReportMetric(0, "ns/op")
}

type stats struct {
	allocated, heap, stack int64
	goroutines             int
}

func (a *actor) stats() (s stats) {
	a.b.Helper()
	_, err := fmt.Fscan(strings.NewReader(a.order("stats")), &s.allocated, &s.goroutines, &s.heap, &s.stack)
	require.NoError(a.b, err)
	return s
}
