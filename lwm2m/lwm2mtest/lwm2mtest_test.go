package lwm2mtest_test

import "testing"

// TestSensor runs the example without security.
func TestSensor(t *testing.T) { testSensor(t) }

// TestKeys runs the example with pre-shared keys.
func TestKeys(t *testing.T) { testKeys(t) }
