package httpapi

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/store"
)

// quiet is a manager whose journal has no lines.
type quiet struct{ manager }

func (quiet) EventBatches(ctx context.Context, _ uint64) iter.Seq2[[]firmware.Event, error] {
	return func(func([]firmware.Event, error) bool) { <-ctx.Done() }
}

func (quiet) Span(context.Context) (store.Span, error) { return store.Span{}, nil }

// TestStreamEndsWithItsRight: a refusal at a heartbeat ends the stream; an authorizer that fails
// does not.
func TestStreamEndsWithItsRight(t *testing.T) {
	for _, refusal := range []error{ErrUnauthenticated, errors.New("no")} {
		synctest.Test(t, func(t *testing.T) {
			var ask atomic.Pointer[func() error]
			set := func(f func() error) { ask.Store(&f) }
			set(func() error { return nil })
			a := newAPI(quiet{}, nil, func(*http.Request, Access) error { return (*ask.Load())() }, Config{})
			ended := make(chan struct{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				defer close(ended)
				Recorded(t, a).ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/api/v1/events?endpoint=mine", nil))
			}()
			for _, f := range []func() error{
				func() error { return nil },
				func() error { time.Sleep(time.Minute); return refusal },
				func() error { panic("no") },
			} {
				set(f)
				time.Sleep(5 * time.Minute)
				select {
				case <-ended:
					t.Fatal("the stream has ended")
				default:
				}
			}
			set(func() error { return refusal })
			time.Sleep(a.config.Heartbeat)
			synctest.Wait()
			select {
			case <-ended:
			default:
				t.Error("the stream goes on")
			}
			time.Sleep(time.Minute) // for authorizers that return late
		})
	}
}
