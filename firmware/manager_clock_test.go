package firmware

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seen, ahead := range map[time.Duration]time.Duration{-time.Hour: 0, 0: 0, time.Hour: time.Hour} {
			now := time.Now().Round(0).UTC()
			c := newClock()
			c.raise(now.Add(seen))
			require.Equal(t, now.Add(ahead), c.now())
			time.Sleep(time.Minute)
			require.Equal(t, now.Add(ahead+time.Minute), c.now())
		}
	})
}
