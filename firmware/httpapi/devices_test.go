package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/store"
)

type deviceSeen struct {
	Endpoint string
	Labels   map[string]string
	Facts    struct {
		Manufacturer, Model, Hardware, Zone, Offset *string
		Read                                        time.Time
	}
}

func (s *service) label(endpoint, body string) answer {
	s.t.Helper()
	return s.do(http.MethodPut, "/api/v1/devices/"+endpoint+"/labels", strings.NewReader(body), "Content-Type", "application/json")
}

func TestLabels(t *testing.T) {
	s := newService(t, httpapi.Config{})
	a := s.label("a%2Fb", `{"site": "oslo", "canary": ""}`)
	require.Equal(t, http.StatusOK, a.StatusCode, "%s", a.body)
	want := map[string]string{"site": "oslo", "canary": ""}
	require.Equal(t, want, decode[deviceSeen](t, a).Labels)
	require.Equal(t, want, decode[deviceSeen](t, s.get("/api/v1/devices/a%2Fb")).Labels)
	s.register("a/b", store.RegistrationRecord{ID: "r"})
	require.Equal(t, want, decode[deviceSeen](t, s.get("/api/v1/devices/a%2Fb")).Labels, "a registration changes no label")
	require.Equal(t, map[string]string{"site": "bergen"}, decode[deviceSeen](t, s.label("a%2Fb", `{"site": "bergen"}`)).Labels)
	require.Contains(t, string(s.label("a%2Fb", `{}`).body), `"labels":{}`)

	requireProblem(t, s.label("none", `{}`), http.StatusNotFound, "not-found")
	for _, bad := range []string{
		`{"Site": "x"}`, `{"": "x"}`, `{"a.b": "x"}`, `{"a": "` + strings.Repeat("x", 64) + `"}`, `{"a": "\u0000"}`,
		`{"a": 1}`, `{"a": null}`, `{"a": "b", "c": {}}`, `null`, `[]`, `"x"`, ``, `{"a": "x"`, `{"a": "x"} {}`,
	} {
		require.Equal(t, http.StatusBadRequest, s.label("a%2Fb", bad).StatusCode, bad)
	}
	// A first guess, by what GET shows.
	wrong := requireProblem(t, s.label("a%2Fb", `{"labels": {"site": "oslo"}}`), http.StatusBadRequest, "invalid-field")
	require.Equal(t, "labels", wrong.Field)
	require.Contains(t, wrong.Detail, `labels must be a text: the body has labels and their values, such as {"site": "oslo"}`)
	var many strings.Builder
	for n := range 33 {
		fmt.Fprintf(&many, `"n%d": "", `, n)
	}
	require.Equal(t, http.StatusBadRequest, s.label("a%2Fb", "{"+strings.TrimSuffix(many.String(), ", ")+"}").StatusCode)
	require.Empty(t, decode[deviceSeen](t, s.get("/api/v1/devices/a%2Fb")).Labels)
}

// fleet stores devices that differ in what is known of them.
func (s *service) fleet() {
	for n, version := range []string{"1.0", "1.9", "1.10", "2.0", "odd", ""} {
		ep := fmt.Sprint("d", n)
		r := store.RegistrationRecord{}
		if n == 5 {
			r.Ended = time.Unix(1, 0)
		}
		_, err := s.db.Commit(s.t.Context(), store.PutRegistration{Endpoint: ep, Registration: r},
			store.PutFirmware{Endpoint: ep, Firmware: store.Firmware{Version: version}},
			store.PutFacts{Endpoint: ep, Facts: store.Facts{Manufacturer: "Acme", Model: fmt.Sprint("S", n%2), Zone: "Europe/Oslo", Read: time.Unix(1, 0)}},
			store.PutLabels{Endpoint: ep, Labels: map[string]string{"site": []string{"oslo", "bergen"}[n/3], "empty": ""}})
		require.NoError(s.t, err)
	}
}

func TestSelectDevices(t *testing.T) {
	s := newService(t, httpapi.Config{})
	s.fleet()
	for query, want := range map[string][]string{
		"":                                   {"d0", "d1", "d2", "d3", "d4", "d5"},
		"label.site=oslo":                    {"d0", "d1", "d2"},
		"label.site=oslo&label.empty=":       {"d0", "d1", "d2"},
		"label.site=":                        {},
		"model=S1":                           {"d1", "d3", "d5"},
		"model=S1&registered=true":           {"d1", "d3"},
		"manufacturer=Acme&version=2.0":      {"d3"},
		"hardware=B":                         {},
		"version_below=2":                    {"d0", "d1", "d2"},
		"version_below=1.10&label.site=oslo": {"d0", "d1"},
		"contains=D":                         {"d0", "d1", "d2", "d3", "d4", "d5"},
		"contains=2":                         {"d2"},
		"contains=2&model=S1":                {},
		"contains=d&version_below=1.5":       {"d0"},
		"state=not_registered":               {"d0", "d1", "d2", "d3", "d4", "d5"}, // the server itself has not seen them
		"state=silent":                       {},
		"state=not_registered&model=S1":      {"d1", "d3", "d5"},
	} {
		for _, limit := range []string{"", "&limit=2"} {
			got := []string{}
			path := "/api/v1/devices?" + query + limit
			for next := path; next != ""; {
				page := decode[struct {
					Items []deviceSeen
					Next  string
				}](t, s.get(next))
				for _, d := range page.Items {
					got = append(got, d.Endpoint)
				}
				if next = ""; page.Next != "" {
					next = path + "&cursor=" + page.Next
				}
			}
			require.Equal(t, want, got, query)
		}
	}
	d := decode[deviceSeen](t, s.get("/api/v1/devices/d1"))
	require.Equal(t, "S1", *d.Facts.Model)
	require.Nil(t, d.Facts.Hardware)
	require.Equal(t, "Europe/Oslo", *d.Facts.Zone)
	require.False(t, d.Facts.Read.IsZero())
	for query, field := range map[string]string{
		"label.Site=oslo": "label.", "label.=x": "label.", "label=site=oslo": "label", "model=": "model", "version=": "version",
		"contains=": "contains", "state=": "state", "state=away": "state",
		"version_below=newest": "version_below", "version_below=": "version_below", "registered=false": "registered", "registered=": "registered",
		"model=%00": "model", "label.a=1&label.a=2": "label.a", "sort=x": "sort",
	} {
		problem := requireProblem(t, s.get("/api/v1/devices?"+query), http.StatusBadRequest, "invalid-query")
		require.Equal(t, field, problem.Field, query)
	}
}

func TestFleet(t *testing.T) {
	s := newService(t, httpapi.Config{})
	empty := s.get("/api/v1/fleet")
	require.JSONEq(t, `{"devices": 0, "states": {"registered": 0, "asleep": 0, "silent": 0, "not_registered": 0}, "versions": [], "models": []}`, string(empty.body))
	s.fleet()
	_, err := s.db.Commit(t.Context(), store.PutFirmware{Endpoint: "d1", Firmware: store.Firmware{Version: "2.0"}})
	require.NoError(t, err)
	require.JSONEq(t, `{"devices": 6, "states": {"registered": 0, "asleep": 0, "silent": 0, "not_registered": 6},
		"versions": [{"version": "2.0", "devices": 2}, {"version": "1.0", "devices": 1}, {"version": "1.10", "devices": 1}, {"version": "odd", "devices": 1}, {"version": null, "devices": 1}],
		"models": [{"model": "S0", "devices": 3}, {"model": "S1", "devices": 3}]}`, string(s.get("/api/v1/fleet").body))
	var changes []store.Change
	for n := range store.MaxDeviceCounts {
		changes = append(changes, store.PutFirmware{Endpoint: fmt.Sprint("many", n), Firmware: store.Firmware{Version: fmt.Sprint("9.", n)}})
	}
	_, err = s.db.Commit(t.Context(), changes...)
	require.NoError(t, err)
	fleet := decode[struct {
		Devices  int
		Versions []struct {
			Version *string
			Devices int
		}
		MoreVersions int `json:"more_versions"`
	}](t, s.get("/api/v1/fleet"))
	sum := fleet.MoreVersions
	for _, v := range fleet.Versions {
		sum += v.Devices
	}
	require.Len(t, fleet.Versions, store.MaxDeviceCounts+1)
	require.Equal(t, fleet.Devices, sum)
	require.Equal(t, 4, fleet.MoreVersions)
}

func TestCompatibleImages(t *testing.T) {
	s := newService(t, httpapi.Config{})
	s.fleet()
	upload := func(query string) answer {
		return s.do(http.MethodPost, "/api/v1/images?name=sensor&version=9&"+query, strings.NewReader("image"), "Content-Type", "application/octet-stream")
	}
	a := upload("model=S1&manufacturer=Acme")
	require.Equal(t, http.StatusCreated, a.StatusCode, "%s", a.body)
	image := decode[struct {
		ID         string
		Compatible map[string]string
	}](t, a)
	require.Equal(t, map[string]string{"model": "S1", "manufacturer": "Acme"}, image.Compatible)
	require.Contains(t, string(s.get("/api/v1/images/"+image.ID).body), `"compatible":{"manufacturer":"Acme","model":"S1"}`)
	requireProblem(t, upload("model=S2"), http.StatusConflict, "version-taken")
	for _, name := range []string{"manufacturer", "model", "hardware"} {
		require.Equal(t, name, requireProblem(t, upload(name+"="), http.StatusBadRequest, "invalid-query").Field)
	}
}
