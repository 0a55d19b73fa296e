package lwm2m

import (
	"context"
	"errors"
	"time"

	"github.com/otago-iot/otago/internal/coap"
)

const (
	// drainLimit is how long a client that stops waits for answers that are under way.
	drainLimit = 5 * time.Second
	// repeatWait is how long after an answer over UDP its request may come again because the answer
	// was lost: ACK_TIMEOUT * ACK_RANDOM_FACTOR (RFC 7252, section 4.8), and a second on the way.
	repeatWait = 4 * time.Second
)

// Stop ends Run without de-registering, as before a reboot: the device will be back and register
// again. Run returns err, which may be nil. Stop does not wait for that, so code that Run calls may
// call it: Reboot of [DeviceObjectConfig], functions given to [AfterResponse].
//
// Run first answers the requests that have arrived, for at most 5 s, and refuses new ones with
// 5.03. If it has answered a request over UDP or DTLS that may have changed something, such as the
// order to reboot, it stays until 4 s after that answer: the server repeats a request whose answer
// was lost, and gets the answer again. Then the contexts of the program's code end, and Run waits
// for that code as always.
//
// Only the first Stop counts. After one before Run, Run returns at once; one after Run does
// nothing.
func (c *Client) Stop(err error) {
	c.stopOnce.Do(func() {
		c.stopErr = err
		close(c.stop)
	})
}

// leaving is the cause of the end of a registration that is kept at the server: the error of Stop,
// which may be nil, or of a Runner.
type leaving struct {
	err    error
	drains bool // answers what is under way
}

func (*leaving) Error() string { return "lwm2m: the client stops" }

// leaves returns why a registration whose context has ended is kept at the server, nil if it is
// not.
func leaves(ctx context.Context) *leaving {
	l, _ := errors.AsType[*leaving](context.Cause(ctx))
	return l
}

// arrived counts a request that is to be answered. It reports false if the client stops.
func (l *link) arrived() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.draining {
		l.serving++
	}
	return !l.draining
}

// answered says that the response to a request was sent.
func (l *link) answered(code coap.Code) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if code != coap.GET && code != coap.FETCH {
		l.lastChange = time.Now()
	}
	if l.serving--; l.serving == 0 && l.draining {
		close(l.idle)
	}
}

// drain answers what is under way, unless the program is to end.
func (l *link) drain(running context.Context) {
	l.mu.Lock()
	l.draining = true
	if l.serving == 0 {
		close(l.idle)
	}
	l.mu.Unlock()
	limit := time.NewTimer(drainLimit)
	defer limit.Stop()
	select {
	case <-l.idle:
	case <-limit.C:
	case <-running.Done():
		return
	}
	l.mu.Lock()
	last := l.lastChange
	l.mu.Unlock()
	if t := l.client.server.transport; t != TransportUDP && t != TransportDTLS {
		return
	}
	repeated := time.NewTimer(time.Until(last.Add(repeatWait)))
	defer repeated.Stop()
	select {
	case <-repeated.C:
	case <-running.Done():
	}
}
