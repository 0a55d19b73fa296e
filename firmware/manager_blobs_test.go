package firmware_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// elsewhere moves the world's images into a bucket.
func (w *world) elsewhere() *bucket {
	w.stop()
	w.bucket = newBucket()
	w.openImages(w.db)
	_, err := w.images.Add(w.ctx, store.Image{Name: w.image.Name, Version: w.image.Version}, bytes.NewReader(make([]byte, w.image.Size)))
	require.NoError(w.t, err)
	w.start(w.db)
	return w.bucket
}

// TestUpdateFromBucket delivers an image from a bucket in each way: while the bucket works, after
// an outage of some minutes, while it hangs, and with wrong bytes. The journal says whose fault
// that is.
func TestUpdateFromBucket(t *testing.T) {
	away := errors.New("the bucket is away")
	hung := make(chan struct{})
	for state, test := range map[string]struct {
		open    func(ctx context.Context, data []byte, offset int64) (io.ReadCloser, error)
		outcome fsm.Outcome
		journal string
	}{
		"works": {nil, fsm.OutcomeSucceeded, ""},
		"is away": {func(context.Context, []byte, int64) (io.ReadCloser, error) { return nil, away },
			fsm.OutcomeSucceeded, "the bucket is away"},
		"hangs": {func(context.Context, []byte, int64) (io.ReadCloser, error) { <-hung; return nil, away },
			fsm.OutcomeSucceeded, "moved no byte for 1m0s"},
		"has other bytes": {func(_ context.Context, data []byte, _ int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(append([]byte{1}, data[1:]...))), nil
		}, fsm.OutcomeFailed, "have the digest"},
	} {
		for way, change := range map[string]func(w *world, s *firmwaretest.Script){
			"push": func(_ *world, s *firmwaretest.Script) { s.Delivery = fsm.PushOnly },
			"coap": func(w *world, s *firmwaretest.Script) { s.Pull = w.fetches("10.0.1.1") },
			"http": func(w *world, s *firmwaretest.Script) {
				s.Protocols, s.Pull = []fsm.Protocol{fsm.ProtocolHTTP}, w.fetches("10.0.1.1")
			},
		} {
			t.Run(way+", "+state, func(t *testing.T) {
				serve := firmware.DeliveryConfig{BaseURLs: bases(map[fsm.Protocol]string{
					fsm.ProtocolCoAP: "coap://" + serverAddress + "/fw/", fsm.ProtocolHTTP: "http://fw.example.com/fw/",
				})}
				inWorldThatServes(t, serve, firmware.ManagerConfig{}, func(w *world) {
					hung = make(chan struct{})
					b := w.elsewhere()
					b.set(func(b *bucket) { b.open = test.open })
					script := good()
					change(w, &script)
					device := w.device(script)
					u := w.begin(w.request())
					time.Sleep(6 * time.Minute)
					if state == "is away" || state == "hangs" {
						b.set(func(b *bucket) { b.open = nil })
					}
					u = w.wait(u.ID, 2*time.Hour)
					require.Equal(t, test.outcome, u.Machine.Outcome, w.journal(u.ID))
					require.Contains(t, w.journal(u.ID), test.journal)
					if test.outcome == fsm.OutcomeFailed {
						require.Equal(t, fsm.ReasonImage, u.Machine.Reason)
						require.Zero(t, count(device.Log(), "execute"))
					} else {
						require.Equal(t, 1, count(device.Log(), "execute"))
					}
					close(hung)
				})
			})
		}
	}
}

// TestBucketHangsOthersGo has many updates wait for an image that never comes. An update of another
// image goes on, and the others report that they wait for the server.
func TestBucketHangsOthersGo(t *testing.T) {
	hung := make(chan struct{})
	inWorld(t, firmware.ManagerConfig{Parallel: 4}, func(w *world) {
		hung = make(chan struct{})
		b := w.elsewhere()
		other, err := w.images.Add(w.ctx, store.Image{Name: "other", Version: newFW}, bytes.NewReader(make([]byte, 4000)))
		require.NoError(t, err)
		b.set(func(b *bucket) {
			b.open = func(_ context.Context, data []byte, offset int64) (io.ReadCloser, error) {
				if len(data) != 4000 {
					<-hung
				}
				return io.NopCloser(bytes.NewReader(data[offset:])), nil
			}
		})
		script := good()
		script.Delivery = fsm.PushOnly
		var stuck string
		for n := range 20 {
			name := string(rune('a' + n))
			w.deviceNamed(name, "10.2.0."+string(rune('1'+n%9))+string(rune('0'+n/9)), script)
			r := w.request()
			r.Endpoint = name
			stuck = w.begin(r).ID
		}
		w.device(script)
		time.Sleep(30 * time.Second)
		r := w.request()
		r.Image = other.ID
		u := w.begin(r)
		u = w.wait(u.ID, 20*time.Second)
		w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
		u, err = w.mgr.Get(w.ctx, stuck)
		require.NoError(t, err)
		require.Equal(t, fsm.WhoseServer, u.Machine.Wait.Whose, w.journal(stuck))
		close(hung)
	})
}

// TestDownloadWhileCopied downloads an image while it is being copied from the bucket: by HTTP the
// download begins with its first bytes, by CoAP only once all are there.
func TestDownloadWhileCopied(t *testing.T) {
	serve := firmware.DeliveryConfig{BaseURLs: bases(map[fsm.Protocol]string{fsm.ProtocolHTTP: "http://fw.example.com/fw/"})}
	inWorldThatServes(t, serve, firmware.ManagerConfig{}, func(w *world) {
		b := w.elsewhere()
		more := make(chan struct{})
		b.set(func(b *bucket) {
			b.open = func(_ context.Context, data []byte, offset int64) (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(bytes.NewReader(data[offset:3000]), reader(func([]byte) (int, error) {
					<-more
					return 0, io.EOF
				}), bytes.NewReader(data[3000:]))), nil
			}
		})
		script := good()
		script.Protocols = []fsm.Protocol{fsm.ProtocolHTTP}
		script.Pull = func(ctx context.Context, uri string) fsm.Result {
			path := uri[len("http://fw.example.com"):]
			pipe, answer := io.Pipe()
			go func() {
				w.delivery.ServeHTTP(&piped{ResponseRecorder: httptest.NewRecorder(), to: answer}, httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil))
				_ = answer.Close()
			}()
			first := make([]byte, 1000)
			_, err := io.ReadFull(pipe, first)
			require.NoError(t, err)
			synctest.Wait()
			_, err = w.delivery.ServeCoAP(ctx, lwm2m.DownloadRequest{Path: path})
			require.ErrorIs(t, err, lwm2m.ErrUnavailable)
			go func() {
				time.Sleep(10 * time.Second)
				close(more)
			}()
			rest, err := io.ReadAll(pipe)
			require.NoError(t, err)
			require.EqualValues(t, w.image.Size, len(first)+len(rest))
			_, err = w.delivery.ServeCoAP(ctx, lwm2m.DownloadRequest{Path: path})
			require.NoError(t, err)
			return fsm.ResultDefault
		}
		w.device(script)
		u := w.update(w.request())
		w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
	})
}

// piped is a response writer that writes into a pipe.
type piped struct {
	*httptest.ResponseRecorder
	to io.Writer
}

func (p *piped) Write(b []byte) (int, error) { return p.to.Write(b) }
