package lwm2m

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

const fleetLinks = `</1/1>,</2>,</3/0>,</4/0>,</5/0>,</6/0>,</7/0>,</9/0>,</9/1>,</10>;ver=1.1,</10/0>,</11>,</16>,</19>,</20/0>,` +
	`</3303/0>,</3313/0>,</3347/0>,</33605>,</33606/0>,</33607/0>,</33608>,</33609/0>,</33629>`

func fleetRequest(i int) *coap.IncomingRequest {
	var options coap.Options
	options = coap.AppendString(options, coap.URIPath, "rd")
	options = coap.AppendUint(options, coap.ContentFormat, 40)
	for _, q := range []string{"lwm2m=1.1", fmt.Sprintf("ep=urn:imei:%015d", i), "lt=86400", "Q"} {
		options = coap.AppendString(options, coap.URIQuery, q)
	}
	ip := [4]byte{}
	binary.BigEndian.PutUint32(ip[:], uint32(i)+1<<24)
	return &coap.IncomingRequest{
		Peer: coap.Peer{Transport: coap.UDP, Addr: netip.AddrPortFrom(netip.AddrFrom4(ip), 5683), ID: 5683},
		Code: coap.POST, Options: options, Payload: []byte(fleetLinks),
	}
}

// TestDeviceCostsBytes registers a fleet and checks its memory and its goroutines.
// OTAGO_FLEET=1000000 go test -run TestDeviceCostsBytes -v makes the fleet big.
func TestDeviceCostsBytes(t *testing.T) {
	n := 5_000
	if s := os.Getenv("OTAGO_FLEET"); s != "" {
		_, err := fmt.Sscan(s, &n)
		require.NoError(t, err)
	}
	s := MustServer(ServerConfig{})
	require.NoError(t, s.enter(t.Context()))
	goroutines := runtime.NumGoroutine()
	before := heapBytes()
	start := time.Now()
	for i := range n {
		resp := s.serveCOAP(t.Context(), fleetRequest(i))
		if resp.Code != coap.Created {
			t.Fatal(resp.Code)
		}
		resp.After()
	}
	perDevice := float64(heapBytes()-before) / float64(n)
	t.Logf("%d devices, %.0f bytes each (record %d), %.1f us to register, all due in one heap of %d",
		n, perDevice, unsafe.Sizeof(device{}), float64(time.Since(start).Microseconds())/float64(n), len(s.table.due))
	require.Less(t, perDevice, 400.0)
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
	start = time.Now()
	s.leave()
	require.Less(t, time.Since(start), 30*time.Second)
	runtime.KeepAlive(s)
}

func heapBytes() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkRegister(b *testing.B) {
	s := MustServer(ServerConfig{MaxRegistrations: 1 << 30})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		s.serveCOAP(b.Context(), fleetRequest(i)).After()
		i++
	}
}

// BenchmarkUpdate renews lifetimes in a fleet.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := MustServer(ServerConfig{})
			updates := make([]*coap.IncomingRequest, n)
			for i := range n {
				r := fleetRequest(i)
				resp := s.serveCOAP(b.Context(), r)
				resp.After()
				var options coap.Options
				for segment := range strings.SplitSeq(location(resp)[1:], "/") {
					options = coap.AppendString(options, coap.URIPath, segment)
				}
				updates[i] = &coap.IncomingRequest{Peer: r.Peer, Code: coap.POST, Options: options}
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				s.serveCOAP(b.Context(), updates[i%n]).After()
				i++
			}
		})
	}
}

// plainFleet is the usual way to keep registrations: the whole record with its parsed links in two
// maps, and a goroutine for each that waits for its lifetime to end.
type plainFleet struct {
	byEndpoint, byID map[string]*plainDevice
	ended            chan struct{}
}

type plainDevice struct {
	Registration
	objects ObjectList
	renewed chan struct{}
}

func (f *plainFleet) register(i int) {
	d := &plainDevice{
		Registration: Registration{
			Endpoint: fmt.Sprintf("urn:imei:%015d", i), ID: newLocation(), Lifetime: 24 * time.Hour, Links: strings.Clone(fleetLinks),
		},
		renewed: make(chan struct{}),
	}
	d.objects = d.Objects()
	f.byEndpoint[d.Endpoint], f.byID[d.ID] = d, d
	go func() {
		timer := time.NewTimer(d.Lifetime)
		defer timer.Stop()
		for {
			select {
			case <-d.renewed:
				timer.Reset(d.Lifetime)
			case <-timer.C:
				return
			case <-f.ended:
				return
			}
		}
	}()
}

// TestPlainFleetCosts is the baseline of TestDeviceCostsBytes.
func TestPlainFleetCosts(t *testing.T) {
	const n = 5_000
	f := &plainFleet{byEndpoint: make(map[string]*plainDevice), byID: make(map[string]*plainDevice), ended: make(chan struct{})}
	defer close(f.ended)
	var stack [2]runtime.MemStats
	before := heapBytes()
	runtime.ReadMemStats(&stack[0])
	for i := range n {
		f.register(i)
	}
	perDevice := float64(heapBytes()-before) / n
	runtime.ReadMemStats(&stack[1])
	t.Logf("%.0f bytes and %.0f of stack each", perDevice, float64(stack[1].StackInuse-stack[0].StackInuse)/n)
	runtime.KeepAlive(f)
}
