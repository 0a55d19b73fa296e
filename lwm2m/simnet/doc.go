// Package simnet is a network in memory for tests: it loses, repeats, reorders and delays
// datagrams, moves hosts to new addresses as a NAT does, and cuts links, all decided by a seed.
//
//	net := simnet.New(1)
//	net.SetDefault(simnet.Conditions{Loss: 0.1, Delay: 50 * time.Millisecond})
//	server, err := net.Listen("10.0.0.1:5683")
//	device, err := net.Listen("10.0.0.2:0")
//
// The connections are net.PacketConns with *net.UDPAddr addresses. All waits are on channels and
// timers of package time, so that under testing/synctest hours of bad radio pass in milliseconds.
//
// What happens to a datagram depends on the seed, the two addresses and on how many went that way
// before, and on nothing else: a test that sends the same datagrams in each direction sees the same
// losses, however its goroutines are scheduled.
package simnet
