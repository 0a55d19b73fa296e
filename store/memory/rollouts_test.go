package memory_test

import (
	"testing"

	"github.com/otago-iot/otago/firmware/rollout/rollouttest"
	"github.com/otago-iot/otago/store/memory"
)

func TestRollouts(t *testing.T) {
	rollouttest.Run(t, func(testing.TB) rollouttest.Store { return memory.New() })
}
