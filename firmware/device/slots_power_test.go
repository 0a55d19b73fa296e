package device

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/disk/disktest"
	"github.com/otago-iot/otago/lwm2m"
)

var errPower = errors.New("power failed")

// power is a power supply that fails after a number of disk operations. model says which unsynced
// data a power failure may keep.
type power struct {
	model disktest.Model

	mu     sync.Mutex
	left   int
	failed string // the first operation that did not happen
}

func (p *power) hook(op string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left--; p.left < 0 {
		p.failed = cmp.Or(p.failed, op)
		return errPower
	}
	return nil
}

func (p *power) off() (at string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// lose removes data that was not durable when the power failed: all of it, or one of the possible
// parts.
func (p *power) lose(t *testing.T, everything bool, n int) {
	entries, err := os.ReadDir(p.model.Root)
	require.NoError(t, err)
	for _, entry := range entries {
		require.NoError(t, os.RemoveAll(filepath.Join(p.model.Root, entry.Name())))
	}
	states := p.model.States(p.model.Count(), 20)
	state := states[0]
	if !everything {
		state = states[n%len(states)]
	}
	state.Write(t, p.model.Root)
}

// TestUpdateSurvivesPowerFailure lets the power fail at each disk operation of a whole update, by
// pull and by push. After each failure the device starts again and ends with the new version and
// Result 1.
func TestUpdateSurvivesPowerFailure(t *testing.T) {
	image := bytes.Repeat([]byte("new firmware\n"), 1000)
	pkg := testBundle(t, "1.1", image)
	server := serve(t, pkg)
	public, _ := testKey()
	for _, way := range []struct {
		delivery   fsm.DeliveryMode
		everything bool
	}{{fsm.DeliveryPull, true}, {fsm.DeliveryPush, true}, {fsm.DeliveryPull, false}, {fsm.DeliveryPush, false}} {
		delivery := way.delivery
		t.Run(delivery.String()+map[bool]string{true: ", all lost", false: ", some lost"}[way.everything], func(t *testing.T) {
			for n := 0; ; n++ {
				r := newRigIn(t, disktest.MemoryDir(t))
				r.slots = SlotConfig{Trust: public, Version: "1.0"}
				supply := &power{left: n, model: disktest.Model{Root: r.dir}}
				r.hook, r.done = supply.hook, supply.model.Made
				err := r.update(delivery, server.URL+"/fw", pkg, supply)
				r.stop()
				failed := supply.off()
				if failed == "" {
					require.NoError(t, err)
					require.Equal(t, "1.1", r.boot.Version)
					t.Logf("%d steps", n)
					return
				}
				supply.lose(t, way.everything, n)
				r.hook, r.done = nil, nil
				at := fmt.Sprintf("power failed at step %d, %s", n, failed)
				seen := r.seen
				require.NoError(t, r.start(), at)
				now := r.now() // installed, if Apply was kept although it had not returned
				require.False(t, seen.State == fsm.Downloaded && now.State == fsm.Idle && now.Result != fsm.ResultSuccess, "%s: what was shown is forgotten", at)
				require.False(t, seen.Result == fsm.ResultSuccess && r.now().Result != fsm.ResultSuccess, "%s: the success is forgotten", at)
				require.NoError(t, r.update(delivery, server.URL+"/fw", pkg, &power{}), at)
				require.Equal(t, "1.1", r.boot.Version, at)
				got, err := os.ReadFile(r.boot.Image)
				require.NoError(t, err, at)
				require.True(t, bytes.Equal(image, got), at)
				r.stop()
				require.NoError(t, r.start(), at)
				require.False(t, r.boot.Trial, at)
				r.wait(fsm.Idle, fsm.ResultSuccess)
				r.stop()
			}
		})
	}
}

// update does what a server does, from any State, until the device has the new version. If the hook
// fails, update ends with its error, at the latest when the device has no more work.
func (r *rig) update(delivery fsm.DeliveryMode, uri string, pkg []byte, supply *power) error {
	for range 10 {
		if r.open == nil {
			if err := r.start(); err != nil {
				return err
			}
		}
		o, err := r.settled(supply)
		if err != nil {
			return err
		}
		switch {
		case o.State == fsm.Idle && o.Result == fsm.ResultSuccess:
			return nil
		case o.State == fsm.Idle && (o.Result == fsm.ResultDefault || o.Result == fsm.ResultConnectionLost):
			if delivery == fsm.DeliveryPush {
				err = r.push(pkg, 1024)
			} else {
				err = r.write(resURI, lwm2m.String(uri))
			}
		case o.State == fsm.Downloaded && o.Result == fsm.ResultDefault:
			if err = r.execute(resUpdate); err == nil {
				if _, err = r.settled(supply); err == nil || errors.Is(err, ErrRestart) {
					err = nil
				}
			}
		default:
			return fmt.Errorf("state %s, result %s", o.State, o.Result)
		}
		if err != nil {
			return err
		}
	}
	return errors.New("no end")
}

// settled waits until the device waits for the server, or has ended. Then it stops the device and
// returns its error.
func (r *rig) settled(supply *power) (fsm.Object, error) {
	for {
		select {
		case err := <-r.ended:
			r.ended = nil
			r.stop()
			if errors.Is(err, ErrRestart) {
				err = r.start()
			}
			if err != nil {
				return fsm.Object{}, err
			}
		default:
		}
		o, err := r.device.State(context.Background())
		if err != nil {
			return o, err
		}
		if r.seen = o; o.State == fsm.Idle || o.State == fsm.Downloaded {
			return o, nil
		}
		if supply.off() != "" {
			return o, errPower // nothing more will happen
		}
		select {
		case <-r.client.change:
		case err := <-r.ended:
			r.ended <- err
		case <-time.After(2 * time.Millisecond):
		}
	}
}
