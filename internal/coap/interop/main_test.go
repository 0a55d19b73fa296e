package interop_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// roleVariable makes this program play one of the roles instead of running tests: benchmarks run
// their servers and loads in processes of their own.
const roleVariable = "OTAGO_INTEROP_ROLE"

var roles = make(map[string]func() error)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := roles[role](); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}
