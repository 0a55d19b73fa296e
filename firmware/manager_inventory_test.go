package firmware

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUnread has two devices register again and again while nobody reads them.
func TestUnread(t *testing.T) {
	m := &Manager{cfg: ManagerConfig{Parallel: 1}}
	m.unread.reading = 1 // another one is being read
	for range 100 {
		m.readSoon("a")
		m.readSoon("b")
	}
	require.Equal(t, []string{"a", "b"}, m.unread.waiting)
}
