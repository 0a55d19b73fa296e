package firmware

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUnread registers two devices again and again while no worker reads them.
func TestUnread(t *testing.T) {
	m := &Manager{config: ManagerConfig{Parallel: 1}}
	m.unread.reading = 1 // one read is in progress
	for range 100 {
		m.readSoon("a")
		m.readSoon("b")
	}
	require.Equal(t, []string{"a", "b"}, m.unread.waiting)
}
