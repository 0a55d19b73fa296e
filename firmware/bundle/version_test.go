package bundle_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/bundle"
)

func TestCompareVersions(t *testing.T) {
	// Each is lower than the next.
	ascending := []string{
		"", "0.0.1", "0.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
		"1.0.0-rc.1", "1.0.0", "1.0.1", "1.1.1", "1.1.10", "1.2", "1.10", "1.x", "2.0", "10", "99999999999999999999999.1",
		"100000000000000000000000",
	}
	for i, a := range ascending {
		for j, b := range ascending {
			got := bundle.CompareVersions(a, b)
			switch {
			case i < j:
				require.Negative(t, got, "%q and %q", a, b)
			case i > j:
				require.Positive(t, got, "%q and %q", a, b)
			default:
				require.Zero(t, got, "%q", a)
			}
		}
	}
	for _, equal := range [][2]string{{"1.2", "1.2.0"}, {"v1.2", "1.2"}, {"1.2+a", "1.2+b"}, {"1.02", "1.2"}, {"1.0-rc+a", "1-rc"}} {
		require.Zero(t, bundle.CompareVersions(equal[0], equal[1]), "%q", equal)
	}
}

func TestCheckVersion(t *testing.T) {
	for _, s := range []string{
		"0", "1", "1.2", "1.2.3.4", "01.02", "v1", "V2.0", "2024.11.30", "20241130", "1.x", "1.0a", "1.0_b2", "1.0.0-alpha.1", "1-0", "1--",
		"1+b", "1.0-rc.1+build-7.x", "1+a-b", "1.0-SNAPSHOT", "1.0.0-rc_1",
	} {
		require.NoError(t, bundle.CheckVersion(s), "%q", s)
	}
	for _, s := range []string{
		"", "-1", "2..0", ".", ".1", "1.", "..", "-", "+", "1-", "1+", "1-+", "1-+b", "1-a..b", "1-.a", "1-a.", "1+b..c", "1+.", "1+a+b", "v", "v.1",
		"vv1", "v-1", "latest", "x1", "_1", "1 2", " 1", "1 ", "1\n", "1\x00", "1/2", "1:2", "1,2", "1~a", "1=2", "é", "1é", "1\xff", "1%", "--1",
	} {
		require.Error(t, bundle.CheckVersion(s), "%q", s)
	}
}

// FuzzCheckVersion: any valid version differs from the same version with a higher number.
func FuzzCheckVersion(f *testing.F) {
	for _, s := range []string{"1.2.3", "-1", "2..0", "v1-a+b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if bundle.CheckVersion(s) != nil {
			return
		}
		if bundle.CompareVersions(s, s) != 0 {
			t.Errorf("%q has no place in the order", s)
		}
		if release, _, _ := strings.Cut(s, "+"); !strings.Contains(release, "-") && bundle.CompareVersions(release+".1", release) <= 0 {
			t.Errorf("%q.1 is not higher than it", release)
		}
	})
}

// FuzzCompareVersions checks that the comparison is an order: reflexive, antisymmetric, transitive.
func FuzzCompareVersions(f *testing.F) {
	f.Add("1.0", "1.0.0", "1.0-rc")
	f.Add("v1", "1.x", "1..1")
	f.Add("1-1.a", "1-1.a.", "")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if bundle.CompareVersions(a, a) != 0 {
			t.Errorf("%q is not itself", a)
		}
		ab, bc, ac := bundle.CompareVersions(a, b), bundle.CompareVersions(b, c), bundle.CompareVersions(a, c)
		if ba := bundle.CompareVersions(b, a); sgn(ab) != -sgn(ba) {
			t.Errorf("%q, %q: %d and back %d", a, b, ab, ba)
		}
		if ab <= 0 && bc <= 0 && (ac > 0 || (ac == 0 && (ab < 0 || bc < 0))) {
			t.Errorf("%q <= %q <= %q, but %d", a, b, c, ac)
		}
	})
}

func sgn(n int) int { return max(-1, min(1, n)) }
