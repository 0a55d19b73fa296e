package firmware_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// TestGrants follows the Package URIs of an update. The store knows each of them, only by its hash,
// before the device does. They lead to the package until the update ends, also after a restart of
// the server, and nowhere afterwards.
func TestGrants(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		get := func(token string) int {
			answer := httptest.NewRecorder()
			w.delivery.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/fw/"+token, nil))
			return answer.Code
		}
		var id string
		var mu sync.Mutex
		var tokens []string
		attempts := func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(tokens)
		}
		w.device(firmwaretest.Script{Version: oldFW, Install: firmwaretest.Install{Version: newFW},
			Pull: func(_ context.Context, uri string) fsm.Result {
				token := uri[strings.LastIndexByte(uri, '/')+1:]
				mu.Lock()
				defer mu.Unlock()
				tokens = append(tokens, token)
				u, err := w.db.Update(w.ctx, id)
				assert.NoError(t, err)
				sum := sha256.Sum256([]byte(token))
				assert.Contains(t, u.Tokens, hex.EncodeToString(sum[:]))
				assert.NotContains(t, u.Tokens, token)
				for _, token := range tokens {
					assert.Equal(t, http.StatusOK, get(token), "attempt %d", len(tokens))
				}
				if len(tokens) < 3 {
					return fsm.ResultConnectionLost
				}
				return fsm.ResultDefault
			}})
		w.stop()
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		id = u.ID
		w.start(w.db)
		for attempts() < 2 {
			time.Sleep(time.Second)
		}
		w.stop()
		w.openImages(w.db)
		require.Equal(t, http.StatusServiceUnavailable, get(tokens[0]), "nothing is known yet")
		w.start(w.db)
		u = w.wait(id, time.Hour)
		require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, w.journal(id))
		require.Len(t, tokens, 3)
		for _, token := range tokens {
			require.Equal(t, http.StatusNotFound, get(token), "after the end")
		}
		require.NoError(t, w.images.Delete(w.ctx, w.image.ID))
	})
}

// TestDeleteWhileNeeded deletes the image of an active update.
func TestDeleteWhileNeeded(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		require.ErrorIs(t, w.images.Delete(w.ctx, w.image.ID), store.ErrInUse)
		_, err = w.mgr.Cancel(w.ctx, u.ID)
		require.NoError(t, err)
		require.NoError(t, w.images.Delete(w.ctx, w.image.ID))
	})
}
