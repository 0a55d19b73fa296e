package lwm2m

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// TestRequestQueue plays scripts of requests to one device: "+r" adds a request, "+s" a stream,
// "+x" an exclusive stream, "-1" ends the first call. running is the calls that run at the end.
func TestRequestQueue(t *testing.T) {
	for _, test := range []struct{ script, running string }{
		{"+r", "1"},
		{"+r +r", "1"},
		{"+r +r -1", "2"},
		{"+r +s", "1 2"},
		{"+s +s", "1"},
		{"+s +r +r", "1 2"},
		{"+s +r -1", "2"},
		{"+x +r", "1"},
		{"+x +s", "1"},
		{"+x +r -1", "2"},
		{"+r +x", "1"},
		{"+r +x +r", "1"}, // it may not overtake the exclusive one
		{"+r +x +s", "1"},
		{"+r +x +s -1", "2"},
		{"+r +x +r -1", "2"},
		{"+r +x +r -1 -2", "3"},
		{"+s +x +r", "1 3"}, // the exclusive one waits for the stream anyway
		{"+s +x +r -1", "3"},
		{"+s +x +r -1 -3", "2"},
		{"+s +r +x +r +s -1 -2", "3"},
	} {
		var q requestQueue
		var all []*Call
		for step := range strings.FieldsSeq(test.script) {
			switch step[0] {
			case '+':
				tk := &Call{lane: map[byte]lane{'r': laneRequest, 's': laneStream, 'x': laneExclusive}[step[1]], phase: phaseWaiting}
				all = append(all, tk)
				q.waiting = append(q.waiting, tk)
			case '-':
				q.remove(all[step[1]-'1'])
			}
			q.grant(func(c *Call) { c.phase = phaseGranted })
		}
		var running []string
		for i, tk := range all {
			for _, r := range q.running {
				if r == tk {
					running = append(running, string(rune('1'+i)))
				}
			}
		}
		require.Equal(t, test.running, strings.Join(running, " "), test.script)
	}
}

// TestAgainWithoutDevice: a call that returns to the queue of a device that cannot be reached any
// more ends, and the counts of calls are right.
func TestAgainWithoutDevice(t *testing.T) {
	s, err := NewServer(ServerConfig{})
	require.NoError(t, err)
	require.NoError(t, s.enter(t.Context()))
	defer s.leave()
	require.Equal(t, coap.Created, register(s, "ep=a", "lwm2m=1.1").Code)
	answers := make(chan Answer, 1)
	c := &Call{server: s, request: Request{Endpoint: "a", Operation: OpRead, Path: NewPath(3)}, sink: sink{done: func(a Answer) { answers <- a }}}
	s.mu.Lock()
	s.enqueue(c, false)
	began := s.running
	c.device.reachable = false
	s.again(c, true)
	running, waiting := s.running, s.waiting
	s.mu.Unlock()
	require.Equal(t, []int{1, 0, 0}, []int{began, running, waiting})
	require.ErrorIs(t, (<-answers).Err, ErrUnreachable)
}
