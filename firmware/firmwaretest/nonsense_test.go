package firmwaretest_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

func TestNonsense(t *testing.T) {
	for _, v := range []lwm2m.Value{lwm2m.Integer(43), lwm2m.Integer(-1), lwm2m.Integer(99), lwm2m.String("yes"), lwm2m.Boolean(true)} {
		script := firmwaretest.Script{Version: "1", Habits: firmwaretest.Habits{Nonsense: firmwaretest.Nonsense{
			Values: map[lwm2m.Path]lwm2m.Value{state: v, result: v},
		}}}
		scripted(t, script, func(w *world) {
			for _, path := range []lwm2m.Path{state, result} {
				got, err := w.read(path)
				switch _, number := v.Int64(); {
				case number:
					require.NoError(w.t, err)
					require.Equal(w.t, v, got)
				case err == nil: // "1" is text for true
					require.Equal(w.t, lwm2m.Integer(1), got)
				default:
					require.ErrorIs(w.t, err, lwm2m.ErrMalformed)
				}
			}
		})
	}
}

func TestNonsenseVersions(t *testing.T) {
	for name, v := range firmwaretest.OddVersions("1.1.0") {
		t.Run(name, func(t *testing.T) {
			script := firmwaretest.Script{Version: "1", PkgVersion: "x", Habits: firmwaretest.Habits{
				StartsIn: fsm.Downloaded,
				Nonsense: firmwaretest.Nonsense{Values: map[lwm2m.Path]lwm2m.Value{version: v, pkgVer: v}},
			}}
			scripted(t, script, func(w *world) {
				for _, path := range []lwm2m.Path{version, pkgVer} {
					got, err := w.read(path)
					if name == "bytes" {
						require.ErrorIs(w.t, err, lwm2m.ErrMalformed)
						continue
					}
					if name == "opaque" { // it has another format
						continue
					}
					require.NoError(w.t, err)
					want, _ := v.Text()
					if name == "a number" {
						want = "1"
					}
					text, _ := got.Text()
					require.Equal(w.t, want, text)
				}
			})
		})
	}
	require.Len(t, must(firmwaretest.OddVersions("1.1.0")["905 bytes"].Text()), 905)
}

func must[T any](v T, ok bool) T {
	if !ok {
		panic("not ok")
	}
	return v
}

// TestNonsenseEmpty checks the bytes of the answers.
func TestNonsenseEmpty(t *testing.T) {
	tests := map[string]struct {
		nonsense firmwaretest.Nonsense
		tail     []byte // after the token
	}{
		"no content": {firmwaretest.Nonsense{NoContent: []lwm2m.Path{state, version}}, nil},
		"empty pack": {firmwaretest.Nonsense{EmptyPack: []lwm2m.Path{state, version}}, []byte{0xc1, 112, 0xff, 0x80}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			script := firmwaretest.Script{Version: "1", Habits: firmwaretest.Habits{Nonsense: tc.nonsense}}
			scripted(t, script, func(w *world) {
				var tails [][]byte
				w.net.Tap(func(p simnet.Packet) {
					if p.From.Addr() == deviceIP && p.Data[1] == 2<<5|5 {
						tails = append(tails, slices.Clone(p.Data[4+p.Data[0]&15:]))
					}
				})
				for _, path := range []lwm2m.Path{state, version} {
					_, _ = w.server.Read(w.t.Context(), endpoint, path)
				}
				require.Len(w.t, tails, 2)
				for _, tail := range tails {
					require.Equal(w.t, string(tc.tail), string(tail))
				}
				_, err := w.read(result)
				require.NoError(w.t, err, "all else is as ever")
			})
		})
	}
}
