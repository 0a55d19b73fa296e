package coap_test

import (
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// notices collects the words of the notices that a call gets.
type notices struct {
	mu  sync.Mutex
	all []string
}

func (n *notices) add(word string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, word)
}

func (n *notices) notice(w coap.Notice) { n.add(w.String()) }

func (n *notices) words() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.all...)
}

// A peer answers the messages of a push in different ways: the events are reported in order, and
// only when they are new.
func TestNotices(t *testing.T) {
	const lost, busy, empty = "lost", "busy", "acknowledged"
	for _, test := range []struct {
		name    string
		answers []string // to one message after the other; then normal answers
		notices []string
	}{
		{"no trouble", nil, []string{"sent"}},
		{"silent once", []string{lost}, []string{"sent", "silent", "heard"}},
		{"silent for long", []string{lost, lost, lost}, []string{"sent", "silent", "heard"}},
		{"silent twice", []string{lost, "", lost}, []string{"sent", "silent", "heard", "silent", "heard"}},
		{"busy", []string{busy}, []string{"sent", "busy", "heard"}},
		{"busy for long", []string{busy, busy, busy}, []string{"sent", "busy", "heard"}},
		{"busy, then silent", []string{busy, lost}, []string{"sent", "busy", "silent", "heard"}},
		{"silent, then busy", []string{lost, busy}, []string{"sent", "silent", "heard", "repeated", "busy", "heard"}},
		{"silent, then slow", []string{lost, empty}, []string{"sent", "silent", "heard", "silent", "heard"}},
		{"busy, then slow", []string{busy, empty}, []string{"sent", "busy", "silent", "heard"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
				var n notices
				e.Go(r.peer(), &coap.Request{Code: coap.PUT, Payload: bodyOf(2000), Notice: n.notice}, func(_ *coap.Response, err error) {
					require.NoError(t, err)
					n.add("done")
				})
				answers := test.answers
				for n.words() == nil || n.words()[len(n.words())-1] != "done" {
					m, ok := r.receiveWithin(time.Minute)
					require.True(t, ok)
					b, _ := blockOf(m, message.Block1)
					reply := withBlock(message.Message{Type: ack, Code: codes.Continue, MessageID: m.MessageID, Token: m.Token}, message.Block1, b)
					if !b.More {
						reply.Code = codes.Changed
					}
					answer := ""
					if len(answers) > 0 {
						answer, answers = answers[0], answers[1:]
					}
					switch answer {
					case lost:
						continue
					case busy:
						reply.Code, reply.Options = codes.ServiceUnavailable, nil
					case empty:
						r.send(message.Message{Type: ack, MessageID: m.MessageID})
						pass(10 * time.Second)
						reply.Type, reply.MessageID = non, 7
					}
					r.send(reply)
					synctest.Wait()
				}
				require.Equal(t, append(test.notices, "done"), n.words())
			})
		})
	}
}

// NoticeSent does not come while a request is queued.
func TestNoticeSentWaitsForTheTurn(t *testing.T) {
	inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
		first, _ := begin(e, r.peer(), &coap.Request{Code: coap.GET})
		var n notices
		c, _ := begin(e, r.peer(), &coap.Request{Code: coap.GET, Notice: n.notice})
		pass(10 * time.Second)
		synctest.Wait()
		require.Empty(t, n.words())
		first.Cancel(nil)
		synctest.Wait()
		require.Equal(t, []string{"sent"}, n.words())
		c.Cancel(nil)
	})
}

// Notice may cancel a request when it reports a silent peer.
func TestCancelInNotice(t *testing.T) {
	inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
		begun := make(chan *coap.Call, 1)
		ended := make(chan error, 1)
		begun <- e.Go(r.peer(), &coap.Request{Code: coap.GET, Notice: func(n coap.Notice) {
			if n == coap.NoticeSilent {
				(<-begun).Cancel(errEnough)
			}
		}}, func(_ *coap.Response, err error) { ended <- err })
		r.receive()
		_, again := r.receiveWithin(4 * time.Second)
		require.True(t, again)
		require.ErrorIs(t, <-ended, errEnough)
		r.silence(10 * time.Minute)
	})
}

// On a stream nothing is retransmitted: the peer counts as silent when it has not answered within
// the time of a first retransmission.
func TestNoticesOnAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		e := coap.New(coap.Config{})
		defer e.Close()
		defer theirs.Close()
		frames := make(chan []byte, 10)
		go func() {
			for {
				b := make([]byte, 100)
				n, err := theirs.Read(b)
				if err != nil {
					return
				}
				frames <- b[:n]
			}
		}()
		peer, err := e.DialStream(t.Context(), ours)
		require.NoError(t, err)
		_, err = theirs.Write([]byte{0x00, 0xe1}) // CSM
		require.NoError(t, err)
		<-frames
		ask := func(idle time.Duration) (*notices, *ending, []byte) {
			n := new(notices)
			_, end := begin(e, peer, &coap.Request{Code: coap.GET, Idle: idle, Notice: n.notice})
			return n, end, <-frames
		}
		answer := func(frame []byte) {
			token := frame[2:10] // length and code
			_, err := theirs.Write(append([]byte{0x08, 0x45}, token...))
			require.NoError(t, err)
			synctest.Wait()
		}
		n, end, frame := ask(0)
		pass(1900 * time.Millisecond)
		require.Equal(t, []string{"sent"}, n.words())
		pass(1200 * time.Millisecond)
		require.Equal(t, []string{"sent", "silent"}, n.words())
		answer(frame)
		require.NoError(t, end.err)
		require.Equal(t, []string{"sent", "silent", "heard"}, n.words())

		n, end, frame = ask(0)
		answer(frame)
		require.NoError(t, end.err)
		require.Equal(t, []string{"sent"}, n.words())

		// The total wait is unchanged.
		for _, idle := range []time.Duration{time.Second, 10 * time.Second} {
			n, end, _ = ask(idle)
			pass(idle - time.Millisecond)
			require.Equal(t, 1, coap.Underway(e))
			pass(2 * time.Millisecond)
			synctest.Wait()
			require.ErrorIs(t, end.err, coap.ErrTimeout)
			require.Equal(t, idle > 3*time.Second, len(n.words()) == 2)
		}
	})
}
