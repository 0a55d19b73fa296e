package lwm2m

import (
	"context"
	"errors"
	"time"

	"github.com/otago-iot/otago/internal/coap"
)

const (
	// drainLimit is how long a client that stops waits until its requests are answered.
	drainLimit = 5 * time.Second
	// repeatWait is how long after an answer over UDP the server may repeat the request because the
	// answer was lost: ACK_TIMEOUT * ACK_RANDOM_FACTOR (RFC 7252, section 4.8) plus one second of
	// latency.
	repeatWait = 4 * time.Second
)

// Stop ends Run without de-registering, for example before a reboot, after which the device
// registers again. Run returns err, which may be nil. Stop does not wait for Run, so code that Run
// calls may call it: Reboot of [DeviceObjectConfig], functions given to [AfterResponse].
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

// leaving is the cause of a context when the client ends without de-registering. It holds the error
// of Stop, which may be nil, or of a Runner.
type leaving struct {
	err    error
	drains bool // first answers the requests that have arrived
}

func (*leaving) Error() string { return "lwm2m: the client stops" }

// leaves returns why a client whose context has ended does not de-register, nil if it does.
func leaves(ctx context.Context) *leaving {
	l, _ := errors.AsType[*leaving](context.Cause(ctx))
	return l
}

// arrived counts a request to answer. It reports false if the client is stopping.
func (l *link) arrived() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.draining {
		l.serving++
	}
	return !l.draining
}

// answered records that the response to a request was sent.
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

// drain waits until the requests that have arrived are answered, or running ends.
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
