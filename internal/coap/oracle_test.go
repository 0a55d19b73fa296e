package coap_test

import "time"

// oracle returns the time of the best sender that has one message in progress at a time and uses
// the timers of RFC 7252, given the fate of each datagram.
//
// The formula for each block is
//
//	T = t(0) + t(1) + ... + t(k-1) + RTT
//
// where k tries failed, because the message or its reply was lost, before one succeeded; t(i) =
// ACK_TIMEOUT * (1 + r/2) * 2^i with a random r for each block; and after MAX_RETRANSMIT = 4
// doublings i restarts at 0 with another r, since a round without reply does not end a transfer.
// The time of the transfer is the sum over its blocks.
//
// It knows nothing of the code under test. lostUp and lostDown return the fate of the n-th datagram
// in each direction, jitter the n-th random number.
func oracle(blocks int, rtt time.Duration, lostUp, lostDown func(n int) bool, jitter func(n int) float64) time.Duration {
	const ackTimeout, maxRetransmit = 2 * time.Second, 4
	var total time.Duration
	up, down, draws := 0, 0, 0
	for range blocks {
		timeout := time.Duration(0)
		for try := 0; ; try++ {
			if try%(maxRetransmit+1) == 0 {
				timeout = time.Duration(float64(ackTimeout) * (1 + jitter(draws)/2))
				draws++
			}
			arrived := !lostUp(up)
			up++
			if arrived {
				replied := !lostDown(down)
				down++
				if replied {
					total += rtt
					break
				}
			}
			total += timeout
			timeout *= 2
		}
	}
	return total
}
