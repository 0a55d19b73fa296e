package httpapi

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

func (a *api) listDevices(w http.ResponseWriter, r *http.Request, req request) error {
	limit, err := req.query.limit()
	if err != nil {
		return err
	}
	after, err := req.query.cursor("devices")
	if err != nil {
		return err
	}
	selector, err := req.query.selector()
	if err != nil {
		return err
	}
	state, err := req.query.state()
	if err != nil {
		return err
	}
	devices := a.manager.Select(r.Context(), selector, after, limit+1)
	if state != "" {
		devices = fitting(a.manager.Select(r.Context(), selector, after, store.MaxSkipped), func(d firmware.DeviceInfo) bool {
			return stateOf(d) == state
		})
	}
	return writePage(w, limit, "devices", devices, func(d firmware.DeviceInfo) string { return d.Endpoint }, viewDevice)
}

// deviceStates are the states of devices, as clients see them.
var deviceStates = map[lwm2m.Presence]string{
	lwm2m.Listening: "registered", lwm2m.Asleep: "asleep", lwm2m.Silent: "silent", lwm2m.Away: "not_registered",
}

func stateOf(d firmware.DeviceInfo) string { return deviceStates[d.Presence] }

func (a *api) deleteDevice(w http.ResponseWriter, r *http.Request, req request) error {
	if err := a.manager.DeleteDevice(r.Context(), req.endpoint); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *api) getDevice(w http.ResponseWriter, r *http.Request, req request) error {
	device, err := a.manager.Device(r.Context(), req.endpoint)
	if err != nil {
		return err
	}
	view := viewDevice(device)
	view.Objects = viewObjects(device, a.modelsOf(req.endpoint))
	return writeJSON(w, http.StatusOK, view)
}

// putLabels replaces the labels of a device. The body is an object of names and values.
func (a *api) putLabels(w http.ResponseWriter, r *http.Request, req request) error {
	var body map[string]any
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	all := make(map[string]string, len(body))
	for _, name := range slices.Sorted(maps.Keys(body)) {
		value, ok := body[name].(string)
		if !ok {
			return invalidField(clip(name, 40), `must be a text: the body has labels and their values, such as {"site": "oslo"}`)
		}
		all[name] = value
	}
	device, err := a.manager.SetLabels(r.Context(), req.endpoint, all)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, viewDevice(device))
}

func (a *api) getFleet(w http.ResponseWriter, r *http.Request, _ request) error {
	fleet, err := a.manager.Fleet(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, viewFleet(fleet))
}

type deviceView struct {
	Endpoint   string       `json:"endpoint"`
	Address    string       `json:"address"`
	Transport  string       `json:"transport"`
	Version    string       `json:"lwm2m_version"`
	Lifetime   int64        `json:"lifetime"` // seconds
	Queue      bool         `json:"queue_mode"`
	Online     bool         `json:"online"`
	State      string       `json:"state"`
	Registered time.Time    `json:"registered,omitzero"`
	LastSeen   time.Time    `json:"last_seen,omitzero"`
	Attributes labels       `json:"attributes"` // further parameters of the Register
	Labels     labels       `json:"labels"`
	Facts      factsView    `json:"facts"`
	Firmware   firmwareView `json:"firmware"`
	Objects    []objectView `json:"objects,omitzero"` // of a single device
}

// An objectView is an object that a device has registered.
type objectView struct {
	ID        uint16   `json:"id"`
	Name      string   `json:"name"` // "" without a model
	Version   string   `json:"version"`
	Instances []uint16 `json:"instances"`
}

func viewObjects(d firmware.DeviceInfo, m *models) []objectView {
	list := lwm2m.Registration{Links: d.Registration.Links}.Objects()
	views := make([]objectView, len(list.Objects))
	for i, o := range list.Objects {
		name, _ := m.name(lwm2m.NewPath(o.ID))
		views[i] = objectView{o.ID, name, list.Version(o.ID).String(), append([]uint16{}, o.Instances...)}
	}
	return views
}

// In a factsView null means unknown: not read, or not reported by the device.
type factsView struct {
	Manufacturer *string   `json:"manufacturer"`
	Model        *string   `json:"model"`
	Hardware     *string   `json:"hardware"`
	Zone         *string   `json:"zone"`
	Offset       *string   `json:"offset"`
	Read         time.Time `json:"read,omitzero"` // when; absent if never
}

func viewFacts(f store.Facts) factsView {
	known := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	return factsView{known(f.Manufacturer), known(f.Model), known(f.Hardware), known(f.Zone), known(f.Offset), f.Read}
}

type fleetView struct {
	Devices  uint64        `json:"devices"`
	States   statesView    `json:"states"`
	Versions []versionView `json:"versions"`
	Models   []modelView   `json:"models"`

	MoreVersions uint64 `json:"more_versions,omitempty"` // devices whose version is not listed
	MoreModels   uint64 `json:"more_models,omitempty"`
}

type statesView struct {
	Registered    int `json:"registered"`
	Asleep        int `json:"asleep"`
	Silent        int `json:"silent"`
	NotRegistered int `json:"not_registered"`
}

// In a versionView or modelView null stands for the devices whose value is not known.
type versionView struct {
	Version *string `json:"version"`
	Devices uint64  `json:"devices"`
}

type modelView struct {
	Model   *string `json:"model"`
	Devices uint64  `json:"devices"`
}

func viewFleet(f firmware.Fleet) fleetView {
	v := fleetView{
		Devices:  f.Devices,
		States:   statesView{f.Listening, f.Asleep, f.Silent, max(int(f.Devices)-f.Listening-f.Asleep-f.Silent, 0)},
		Versions: []versionView{}, Models: []modelView{},
	}
	var listed uint64
	for _, c := range most(f.Versions) {
		v.Versions = append(v.Versions, versionView{&c.Value, c.Devices})
		listed += c.Devices
	}
	if unknown := f.Devices - min(f.WithVersion, f.Devices); unknown > 0 {
		v.Versions = append(v.Versions, versionView{nil, unknown})
	}
	v.MoreVersions, listed = f.WithVersion-min(listed, f.WithVersion), 0
	for _, c := range most(f.Models) {
		v.Models = append(v.Models, modelView{&c.Value, c.Devices})
		listed += c.Devices
	}
	if unknown := f.Devices - min(f.WithModel, f.Devices); unknown > 0 {
		v.Models = append(v.Models, modelView{nil, unknown})
	}
	v.MoreModels = f.WithModel - min(listed, f.WithModel)
	return v
}

// most sorts counts, the largest first.
func most(counts []store.DeviceCount) []store.DeviceCount {
	slices.SortStableFunc(counts, func(a, b store.DeviceCount) int { return cmp.Compare(b.Devices, a.Devices) })
	return counts
}

// In a firmwareView null means unknown.
type firmwareView struct {
	State     *string     `json:"state"`
	Result    *resultView `json:"result"`
	Version   *string     `json:"version"`
	Protocols []string    `json:"protocols"`
	Delivery  *string     `json:"delivery"`
	Component string      `json:"component,omitempty"`
	Package   *string     `json:"holds_package"` // SHA-256
	Read      time.Time   `json:"read,omitzero"` // when; absent if never
}

func viewFirmware(f store.Firmware) firmwareView {
	v := firmwareView{Component: f.Component, Read: f.Read}
	if f.State != nil {
		v.State = new(f.State.String())
	}
	if f.Result != nil {
		v.Result = new(viewResult(*f.Result))
	}
	if f.Version != "" {
		v.Version = new(f.Version)
	}
	if f.Protocols != nil {
		v.Protocols = make([]string, len(f.Protocols))
	}
	for i, n := range f.Protocols {
		v.Protocols[i] = strconv.Itoa(n)
		if p, ok := fsm.ProtocolNumber(int64(n)); ok {
			v.Protocols[i] = p.String()
		}
	}
	if f.Delivery != nil {
		v.Delivery = new(f.Delivery.String())
	}
	if f.Holds != "" {
		v.Package = new(f.Holds)
	}
	return v
}

func viewDevice(d firmware.DeviceInfo) deviceView {
	return deviceView{
		Endpoint:   d.Endpoint,
		Address:    d.Registration.Address,
		Transport:  d.Registration.Transport,
		Version:    d.Registration.Version,
		Lifetime:   int64(d.Registration.Lifetime / time.Second),
		Queue:      d.Registration.Queue,
		Online:     d.Online,
		State:      stateOf(d),
		Registered: d.Registration.Registered,
		LastSeen:   instant(d.Registration.LastSeen),
		Attributes: viewAttributes(d.Registration.Attributes),
		Labels:     d.Labels,
		Facts:      viewFacts(d.Facts),
		Firmware:   viewFirmware(d.Firmware),
	}
}

// viewAttributes returns the attributes of a registration by name.
func viewAttributes(s string) labels {
	values, _ := url.ParseQuery(s)
	all := make(labels, len(values))
	for name, list := range values {
		all[name] = list[0]
	}
	return all
}
