//go:build unix

package device

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/otago-iot/otago/firmware/bundle"
	"github.com/otago-iot/otago/firmware/fsm"
)

func TestResultOf(t *testing.T) {
	path := func(err error) error {
		return fmt.Errorf("save: %w", &os.PathError{Op: "write", Path: "image", Err: err})
	}
	tests := []struct {
		err      error
		fallback fsm.Result
		want     fsm.Result
	}{
		{path(unix.ENOSPC), fsm.ResultConnectionLost, fsm.ResultNoStorage},
		{path(unix.EDQUOT), fsm.ResultConnectionLost, fsm.ResultNoStorage},
		{path(unix.EFBIG), fsm.ResultConnectionLost, fsm.ResultNoStorage},
		{path(unix.ENOSPC), fsm.ResultIntegrityFailed, fsm.ResultNoStorage},
		{path(unix.ENOMEM), fsm.ResultNoStorage, fsm.ResultOutOfMemory},
		{path(unix.ENOMEM), fsm.ResultConnectionLost, fsm.ResultOutOfMemory},
		{errors.Join(errors.New("other"), path(unix.ENOSPC)), fsm.ResultConnectionLost, fsm.ResultNoStorage},
		// An error of broken storage gets the Result of storage only if the fallback says that the
		// caller was storing.
		{path(unix.EIO), fsm.ResultNoStorage, fsm.ResultNoStorage},
		{path(unix.EROFS), fsm.ResultNoStorage, fsm.ResultNoStorage},
		{path(unix.EACCES), fsm.ResultNoStorage, fsm.ResultNoStorage},
		{path(unix.EIO), fsm.ResultIntegrityFailed, fsm.ResultIntegrityFailed},
		{transient(unix.ECONNRESET), fsm.ResultConnectionLost, fsm.ResultConnectionLost},
		// In Updating, all of them get Result 8.
		{path(unix.ENOSPC), fsm.ResultUpdateFailed, fsm.ResultUpdateFailed},
		{path(unix.ENOMEM), fsm.ResultUpdateFailed, fsm.ResultUpdateFailed},
		// The Result that an error carries takes precedence.
		{fmt.Errorf("%w: %w", ErrIntegrity, unix.ENOSPC), fsm.ResultConnectionLost, fsm.ResultIntegrityFailed},
		{fmt.Errorf("x: %w", ErrNoMemory), fsm.ResultNoStorage, fsm.ResultOutOfMemory},
		{fmt.Errorf("x: %w", ErrNoStorage), fsm.ResultUpdateFailed, fsm.ResultNoStorage},
		{packageError(fmt.Errorf("x: %w", bundle.ErrTooLarge)), fsm.ResultIntegrityFailed, fsm.ResultNoStorage},
	}
	for _, tc := range tests {
		require.Equal(t, tc.want, resultOf(tc.err, tc.fallback), "%v during %s", tc.err, tc.fallback)
	}
	require.ErrorIs(t, storageError(path(unix.EDQUOT)), ErrNoStorage)
	require.ErrorIs(t, storageError(path(unix.EIO)), ErrNoStorage)
	require.ErrorIs(t, storageError(path(unix.EIO)), unix.EIO)
	require.ErrorIs(t, storageError(path(unix.ENOMEM)), ErrNoMemory)
	require.ErrorIs(t, noSpace(path(unix.ENOSPC)), ErrNoStorage)
	require.NotErrorIs(t, noSpace(path(unix.EIO)), ErrNoStorage)
}
