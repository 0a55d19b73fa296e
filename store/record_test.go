package store_test

import (
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/otago-iot/otago/store"
)

func TestLocation(t *testing.T) {
	summer := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		zone, offset string
		want         string // of the time in summer; "" if the device has no zone
	}{
		{"Europe/Oslo", "+01:00", "14:00"},
		{"Europe/Oslo", "", "14:00"},
		{"Nowhere/At_All", "+01:00", "13:00"},
		{"CET-1CEST,M3.5.0,M10.5.0/3", "+02:00", "14:00"},
		{"../../etc/passwd", "", ""},
		{"/etc/localtime", "", ""},
		{"Local", "", ""},
		{"Local", "-03:30", "08:30"},
		{"", "", ""},
		{"", "+02", "14:00"},
		{"", "+0530", "17:30"},
		{"", "UTC+2", "14:00"},
		{"", "UTC-02:00", "10:00"},
		{"", "GMT+1", "13:00"},
		{"", "-9", "03:00"},
		{"", "UTC", "12:00"},
		{"", "Z", "12:00"},
		{"", "+25:00", ""},
		{"", "+02:99", ""},
		{"", "2", ""},
		{"", "12", ""},
		{"", "UTC+02:00:00", ""},
		{"", "summer", ""},
	} {
		zone, ok := store.Facts{Zone: test.zone, Offset: test.offset}.Location()
		got := ""
		if ok {
			got = summer.In(zone).Format("15:04")
		}
		if got != test.want {
			t.Errorf("Location of %q and %q: noon is %q there, want %q", test.zone, test.offset, got, test.want)
		}
	}
}
