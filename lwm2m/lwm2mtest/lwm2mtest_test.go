package lwm2mtest_test

import "testing"

// TestSensor runs the example of the package's page.
func TestSensor(t *testing.T) { testSensor(t) }
