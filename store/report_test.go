package store_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/store"
)

// TestCommits: failures of the database count from the first one until a success; refusals count
// for nothing.
func TestCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c store.Commits
		require.Equal(t, store.Report{}, c.Report())
		c.Ended(fmt.Errorf("commit: %w", store.ErrConflict))
		require.Equal(t, store.Report{}, c.Report())
		c.Ended(nil)
		first := time.Now()
		require.Equal(t, store.Report{LastCommit: first}, c.Report())

		time.Sleep(time.Minute)
		down := errors.New("no connection")
		c.Ended(down)
		since := time.Now()
		time.Sleep(time.Minute)
		c.Ended(&store.UpdateError{Err: store.ErrActive})
		require.Equal(t, store.Report{LastCommit: first, FailingSince: since, Err: down}, c.Report())
		c.Ended(store.ErrNoSpace)
		require.Equal(t, store.Report{LastCommit: first, FailingSince: since, Err: store.ErrNoSpace}, c.Report())
		c.Ended(nil)
		require.Equal(t, store.Report{LastCommit: time.Now()}, c.Report())
	})
}
