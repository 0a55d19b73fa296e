package backend

import (
	"net"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/otago-iot/otago/firmware/httpapi"
)

// doors are all doors, in the order of the status.
var doors = []Door{CoAP, CoAPS, CoAPTCP, CoAPSTCP, FWHTTP, FWHTTPS, HTTP, LeshanAPI}

// protocols are the URI schemes of the doors for CoAP.
var protocols = map[Door]string{CoAP: "coap", CoAPS: "coaps", CoAPTCP: "coap+tcp", CoAPSTCP: "coaps+tcp"}

// status says what the backend knows of its doors; the server counts those for CoAP itself.
func (b *Backend) status() (p httpapi.Program) {
	for _, door := range doors {
		address := b.address(door)
		if address == nil {
			continue
		}
		s := httpapi.Socket{Door: string(door), Address: address.String(), Protocol: protocols[door]}
		if s.Protocol == "" {
			s.Protocol, s.Open, s.Limit = schemes[door].String(), int(b.open[door].Load()), b.config.Web.MaxConnections
		}
		p.Sockets = append(p.Sockets, s)
	}
	return p
}

// count counts the connections of a door in its server.
func count(server *http.Server, open *atomic.Int64) {
	state := server.ConnState
	server.ConnState = func(c net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateHijacked, http.StateClosed:
			open.Add(-1)
		}
		state(c, s)
	}
}

// isHealth reports whether a request asks how the server is, which anyone may.
func isHealth(r *http.Request) bool {
	return slices.Contains([]string{"/healthz", "/readyz"}, r.URL.Path)
}

// withHealth answers requests for /healthz and /readyz, and passes the others on.
func (b *Backend) withHealth(next http.Handler) (http.Handler, error) {
	health, err := httpapi.Health(b.manager, httpapi.Config{Status: b.status, Logger: b.config.Logger})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isHealth(r) {
			health.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	}), err
}
