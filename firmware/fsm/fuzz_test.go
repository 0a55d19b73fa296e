package fsm_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// FuzzUpdate feeds random observations to an update, in any order, and checks what must always
// hold.
func FuzzUpdate(f *testing.F) {
	f.Add([]byte{1, 1, 0, 0, 8, 0x45, 0, 0, 8, 0x45, 0x22, 0x10})
	f.Add([]byte{1, 0, 0, 0, 3, 0, 0, 0, 8, 0x45, 0, 0, 8, 0x45, 1, 2, 12, 0, 0, 9})
	f.Fuzz(func(t *testing.T, data []byte) {
		u := fsm.NewUpdate(fsm.Plan{Target: newVersion, Size: 1000}, epoch)
		now, ended, read := epoch, 0, false
		executes := 0
		for len(data) >= 4 {
			o := fsm.Observation{
				Kind: fsm.ObservationKind(data[0]%13 + 1), Code: fsm.Code(data[1]), Online: data[1]&1 == 1,
				Action: u.Doing().ID - uint32(data[2]>>7), Bytes: int64(data[1]),
			}
			o.Reading = fsm.Reading{
				State: fsm.Field[fsm.State]{Value: fsm.State(data[2] & 7), Code: o.Code}, Result: fsm.Known(fsm.Result(data[2] >> 3 & 15)),
				Version:   fsm.Known([]string{oldVersion, newVersion, "", "9"}[data[3]&3]),
				Protocols: fsm.Field[[]fsm.Protocol]{Value: []fsm.Protocol{fsm.ProtocolHTTP}, Code: fsm.Code(data[3]) & 0x45},
				Delivery:  fsm.Known(fsm.DeliverySupport(data[3] >> 2 & 3)),
			}
			if data[3]&0x80 != 0 {
				now = u.Wake()
			} else {
				now = now.Add(time.Duration(data[3]>>4&7) * time.Minute)
			}
			o.At = now
			data = data[4:]

			before := u
			next, actions := u.Step(o)
			u = next
			if !before.Active() {
				require.Equal(t, before, u, "an ended update does not change")
				require.Equal(t, fsm.Actions{}, actions)
				return
			}
			if actions.Ended {
				ended++
			}
			require.Equal(t, u.Active(), ended == 0)
			require.Equal(t, u.Active(), u.Result == fsm.ResultDefault)
			require.Equal(t, u.Active(), u.Wait.Reason != "")
			require.False(t, u.Deadline.Before(now) && u.Active() && u.Resumed().IsZero(), "the deadline ends it")
			if u.Active() {
				require.True(t, u.Wake().After(u.Now()), "the timer lies ahead")
				require.True(t, u.Wait.Until.After(u.Now()), "the wait has an end ahead")
			}
			if o.Kind == fsm.ObserveDone && o.Reading.State.OK() && before.Doing().Kind == fsm.ActionRead && o.Action == before.Doing().ID {
				read = true
			}
			a := actions.Do
			require.False(t, a.Kind != fsm.ActionNone && before.Doing().Kind != fsm.ActionNone &&
				before.Doing().ID != o.Action && !actions.Abandon, "one action at a time")
			require.False(t, a.Kind != fsm.ActionNone && a.Kind != fsm.ActionRead && a.Kind != fsm.ActionObserve && !actions.Persist)
			if a.Kind == fsm.ActionExecute {
				require.True(t, read, "Execute follows a read")
				read = false
				executes++
			}
			stored, err := u.Stored()
			require.NoError(t, err)
			again, err := fsm.Loaded(stored)
			require.NoError(t, err)
			require.Equal(t, u, again, "stored and loaded")
		}
	})
}

// FuzzObject feeds random inputs to the device's machine: it never leaves the known states, never
// asks for contradictory effects, and survives storage.
func FuzzObject(f *testing.F) {
	f.Add([]byte{4, 0, 0, 0, 5, 0, 1, 9, 6, 0, 1, 9, 9, 0, 1, 0, 11, 0, 0, 0})
	kinds := append(inputKinds(f), "no such input")
	f.Fuzz(func(t *testing.T, data []byte) {
		o := fsm.NewObject(fsm.Object12, fsm.PushAndPull)
		now := epoch
		for len(data) >= 4 {
			now = now.Add(time.Duration(data[1]) * time.Second)
			in := fsm.Input{
				Kind: kinds[int(data[0])%len(kinds)], At: now, Transfer: o.Transfer - uint32(data[2]>>7),
				Fault: fsm.Result(data[2] & 15), Offset: int64(int8(data[3])), Size: int64(data[3]), Value: int64(int8(data[3])),
				PackageKept: data[1]&1 == 1, Defer: data[1]&2 == 2, Install: fsm.Install(data[1] >> 2 & 3), URI: "coap://h/p",
			}
			data = data[4:]
			next, fx := o.Step(in)
			require.True(t, next.State.Known())
			require.Equal(t, next != o, fx.Persist)
			require.False(t, fx.StartDownload && (fx.Verify || fx.Install || fx.Reboot))
			require.False(t, next.State == fsm.Idle && (fx.StartDownload || fx.Verify || fx.Install || fx.Reboot))
			require.GreaterOrEqual(t, next.Offset, int64(0))
			stored, err := json.Marshal(next)
			require.NoError(t, err)
			var again fsm.Object
			require.NoError(t, json.Unmarshal(stored, &again))
			require.Equal(t, next, again)
			o = next
		}
	})
}
