package coap

import (
	"bytes"
	"errors"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// maxWaiting is how much memory a small waiting request may take, with its Request but without its
// peer.
const maxWaiting = 1536

// silentPeers makes an endpoint with n peers; see TestIdlePeersAreSmall for their memory.
func silentPeers(t *testing.T, n int) (e *Endpoint, to func(i int) Peer) {
	e = New(Config{})
	t.Cleanup(func() { e.Close() })
	s := e.newSocket(t.Context(), discard{})
	require.NoError(t, e.enter(s))
	close(s.done)
	to = func(i int) Peer {
		return Peer{Transport: UDP, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 5683)}
	}
	for i := range n {
		_, err := e.resolve(to(i))
		require.NoError(t, err)
	}
	return e, to
}

// Requests to silent peers take memory but no goroutine, neither in the queue, nor during
// retransmissions and further rounds.
func TestWaitingRequestsAreSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const requests = 2000
		e, to := silentPeers(t, requests)
		var ended, silent atomic.Int32
		noticed := func(n Notice) {
			if n == NoticeSilent {
				silent.Add(1)
			}
		}
		goroutines, before := runtime.NumGoroutine()+10, heap() // some are about to end
		for i := range requests {
			r := &Request{Code: GET, Path: []string{"5", "0", "3"}, Accept: FormatOf(11542), Notice: noticed}
			e.Go(to(i), r, func(_ *Response, err error) {
				if errors.Is(err, ErrTimeout) {
					ended.Add(1)
				}
			})
			if i%16 == 0 {
				synctest.Wait() // the runtime keeps some memory for each former goroutine
			}
		}
		synctest.Wait()
		each := (heap() - before) / requests
		t.Logf("%d bytes each", each)
		require.Less(t, each, int64(maxWaiting))

		// Two requests to one peer, the second of which queues, and a push whose block gets no
		// answer.
		image := bytes.NewReader(make([]byte, 1<<20))
		e.Go(to(0), &Request{Code: GET, Idle: time.Hour}, func(*Response, error) { ended.Add(1) })
		e.Go(to(requests), &Request{Code: PUT, Body: image, Size: image.Size(), Stall: time.Hour}, func(*Response, error) { ended.Add(1) })
		for range 9 {
			<-time.After(5 * time.Second)
			synctest.Wait()
			require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
			require.Zero(t, ended.Load())
		}
		require.EqualValues(t, requests, silent.Load())
		<-time.After(50 * time.Second)
		synctest.Wait()
		require.EqualValues(t, requests, ended.Load())
		require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
		require.NoError(t, e.Close())
		synctest.Wait()
		require.EqualValues(t, requests+2, ended.Load())
		runtime.KeepAlive(image)
	})
}

// A waiting block is stored once.
func TestWaitingBlocksAreHeldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const requests = 2000
		e, to := silentPeers(t, requests)
		image := bytes.NewReader(make([]byte, 1<<20))
		before := heap()
		for i := range requests {
			e.Go(to(i), &Request{Code: PUT, Path: []string{"5", "0", "0"}, Body: image, Size: image.Size()}, func(*Response, error) {})
			if i%16 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		each := (heap() - before) / requests
		t.Logf("%d bytes each", each)
		require.Less(t, each, int64(maxWaiting+1152))
		require.NoError(t, e.Close())
		runtime.KeepAlive(image)
	})
}
