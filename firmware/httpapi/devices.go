package httpapi

import (
	"net/http"

	"github.com/otago-iot/otago/firmware"
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
	devices := a.manager.Devices(r.Context(), store.DeviceQuery{After: after, Limit: limit + 1})
	return writePage(w, limit, "devices", devices, func(d firmware.DeviceInfo) string { return d.Endpoint }, viewDevice)
}

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
	return writeJSON(w, http.StatusOK, viewDevice(device))
}
