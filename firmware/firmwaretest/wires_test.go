package firmwaretest_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

const (
	codeChanged  = 2<<5 | 4
	codeContinue = 2<<5 | 31
	codeTooLarge = 4<<5 | 13
	codeBusy     = 5<<5 | 3
)

// loseAnswers loses the first answer of the device with a code, after the given number of them.
func (w *world) loseAnswers(code byte, after int) {
	w.net.SetLink(deviceIP, serverIP, simnet.Conditions{Delay: 10 * time.Millisecond, Drop: func(p simnet.Packet) bool {
		if p.Data[0]>>4&3 != 2 || p.Data[1] != code {
			return false
		}
		after--
		return after == -1
	}})
}

// codes counts the device's answers by their codes.
func (w *world) codes() map[byte]int {
	codes := map[byte]int{}
	w.net.Tap(func(p simnet.Packet) {
		if p.From.Addr() == deviceIP {
			codes[p.Data[1]]++
		}
	})
	return codes
}

// push writes a package of 5000 bytes.
func (w *world) push(block int) error {
	_, err := w.server.Do(w.t.Context(), lwm2m.Request{
		Endpoint: endpoint, Operation: lwm2m.OpWriteStream, Path: pkg, Body: bytes.NewReader(make([]byte, 5000)), Size: 5000,
		BlockSize: block,
	})
	return err
}

func locking() firmwaretest.Script {
	return firmwaretest.Script{
		Version: "1", Delivery: fsm.PushAndPull, Install: firmwaretest.Install{Version: "2"},
		Habits: firmwaretest.Habits{LocksInPush: true},
	}
}

func TestLocksInPush(t *testing.T) {
	scripted(t, locking(), func(w *world) {
		require.NoError(w.t, w.push(1024))
		w.shows(fsm.Downloaded, fsm.ResultDefault)

		require.NoError(w.t, w.write(uri, lwm2m.String("")))
		w.shows(fsm.Idle, fsm.ResultDefault)
		codes := w.codes()
		w.loseAnswers(codeContinue, 2)
		began := time.Now()
		pushed := make(chan error, 1)
		go func() { pushed <- w.push(1024) }()
		<-time.After(5 * time.Second)
		require.NotZero(w.t, codes[codeBusy], "the repeated block")
		require.Equal(w.t, 3, codes[codeContinue])

		// The device is deaf for 300 s after the last new block: it answers no reads, and its own
		// timers stand still.
		updates := w.happened(lwm2m.EventUpdated)
		for time.Since(began) < 295*time.Second {
			_, err := w.read(version)
			requireCode(w.t, err, lwm2m.CodeUnavailable)
			<-time.After(10 * time.Second)
		}
		require.Equal(w.t, updates, w.happened(lwm2m.EventUpdated))
		require.Error(w.t, <-pushed)
		w.shows(fsm.Idle, fsm.ResultConnectionLost)
		require.Equal(w.t, 2, w.happened(lwm2m.EventRegistered), "its registration was over by then")
		require.NoError(w.t, w.push(1024))
		w.shows(fsm.Downloaded, fsm.ResultDefault)
	}, func(c *lwm2m.ClientConfig) { c.Lifetime = 200 * time.Second })
}

// TestLocksInPushRefusesOthers: even without a repetition, a device in a push answers nothing else.
func TestLocksInPushRefusesOthers(t *testing.T) {
	scripted(t, locking(), func(w *world) {
		w.net.SetDefault(simnet.Conditions{Delay: time.Second})
		pushed := make(chan error, 1)
		go func() { pushed <- w.push(1024) }()
		<-time.After(3500 * time.Millisecond)
		_, err := w.read(state)
		requireCode(w.t, err, lwm2m.CodeUnavailable)
		require.NoError(w.t, <-pushed)
		w.shows(fsm.Downloaded, fsm.ResultDefault)
	})
}

func TestLocksAtLastBlock(t *testing.T) {
	scripted(t, locking(), func(w *world) {
		codes := w.codes()
		w.loseAnswers(codeChanged, 0)
		_ = w.push(1024)
		require.NotZero(w.t, codes[codeBusy], "the repeated last block")
		<-time.After(3 * time.Second)
		v, err := w.read(state)
		require.NoError(w.t, err)
		require.Equal(w.t, lwm2m.Integer(int64(fsm.Downloaded)), v, "it has the package")
	})
}

func TestBuffer(t *testing.T) {
	script := firmwaretest.Script{
		Version: "1", Delivery: fsm.PushAndPull, Install: firmwaretest.Install{Version: "2"}, Habits: firmwaretest.Habits{Buffer: 1024},
	}
	scripted(t, script, func(w *world) {
		var refusal []byte
		w.net.Tap(func(p simnet.Packet) {
			if p.From.Addr() == deviceIP && p.Data[1] == codeTooLarge {
				refusal = append([]byte(nil), p.Data...)
			}
		})
		err := w.push(1024)
		if err != nil { // unless the server has gone on with smaller blocks by itself
			requireCode(w.t, err, lwm2m.CodeTooLarge)
		}
		require.NotNil(w.t, refusal)
		require.Len(w.t, refusal, 4+int(refusal[0]&15), "no option")
		for _, block := range []int{512, 256, 128, 64} {
			require.NoError(w.t, w.write(uri, lwm2m.String("")))
			w.shows(fsm.Idle, fsm.ResultDefault)
			require.NoError(w.t, w.push(block))
			w.shows(fsm.Downloaded, fsm.ResultDefault)
		}
	})
}
