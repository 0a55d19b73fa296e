package coap

import "time"

// An acknowledgement or a Reset says of itself no more than a message id, of 16
// bits. Who forges the address of a UDP peer can try them all, and so stop a
// retransmission or end an exchange. So an association takes a few strays, those
// that are about nothing, and with more it believes none of them for a while: a
// real one then costs the time of the retransmissions.
const (
	maxStrays  = 16
	strayEvery = 30 * time.Second // one more
	recentIDs  = 16               // of ours may be answered late
)

// stray counts an acknowledgement or a Reset about nothing. a.mu is held.
func (a *association) stray(mid uint16) {
	if a.mid-mid < recentIDs {
		return
	}
	now := a.e.timers.now()
	a.strays = min(max(a.strays, now)+strayEvery, now+(maxStrays+1)*strayEvery)
}

// doubtful reports whether too many strays came. Over other transports than UDP
// the peer itself has sent them. a.mu is held.
func (a *association) doubtful() bool {
	return a.peer.Transport == UDP && a.strays > a.e.timers.now()+maxStrays*strayEvery
}
