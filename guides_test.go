package otago_test

// The snippets of the guides in doc, in code that compiles. TestGuides compares them.

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/console"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

type keys struct{ db *sql.DB }

func (k keys) PSK(ctx context.Context, identity string) ([]byte, error) {
	var key []byte
	err := k.db.QueryRowContext(ctx, "SELECT key FROM devices WHERE identity = $1", identity).Scan(&key)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, lwm2m.ErrUnknownIdentity
	}
	return key, err
}

func (k keys) Endpoint(ctx context.Context, id lwm2m.Identity) (string, error) {
	if id.Kind == lwm2m.IdentityCertificate {
		return id.Name, nil // a verified certificate may register its own names
	}
	var endpoint string
	err := k.db.QueryRowContext(ctx, "SELECT endpoint FROM devices WHERE identity = $1", id.Name).Scan(&endpoint)
	if errors.Is(err, sql.ErrNoRows) {
		return "", lwm2m.ErrUnknownIdentity
	}
	return endpoint, err
}

var _ lwm2m.Credentials = keys{}

type registry struct{ db *sql.DB }

func (r registry) PutRegistration(ctx context.Context, reg lwm2m.Registration) error {
	record, err := json.Marshal(reg)
	if err != nil {
		return err
	}
	_, err = r.db.ExecContext(ctx, `INSERT INTO registrations (endpoint, record) VALUES ($1, $2)
		ON CONFLICT (endpoint) DO UPDATE SET record = $2`, reg.Endpoint, record)
	return err
}

func (r registry) DeleteRegistration(ctx context.Context, endpoint string) error {
	_, err := r.db.ExecContext(ctx, `DELETE FROM registrations WHERE endpoint = $1`, endpoint)
	return err
}

func (r registry) Registrations(ctx context.Context) iter.Seq2[lwm2m.Registration, error] {
	return func(yield func(lwm2m.Registration, error) bool) {
		rows, err := r.db.QueryContext(ctx, `SELECT endpoint, record FROM registrations`)
		if err != nil {
			yield(lwm2m.Registration{}, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			var endpoint string
			var record []byte
			if err := rows.Scan(&endpoint, &record); err != nil {
				yield(lwm2m.Registration{}, err)
				return
			}
			var reg lwm2m.Registration
			if json.Unmarshal(record, &reg) != nil { // one bad record must not keep the server from starting
				reg = lwm2m.Registration{Endpoint: endpoint, Secured: true}
			}
			if !yield(reg, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(lwm2m.Registration{}, err)
		}
	}
}

var _ lwm2m.RegistrationStore = registry{}

// presence is what a program knows of its devices.
type presence interface {
	Online(endpoint string, address netip.AddrPort)
	Offline(endpoint string)
}

func _(srv *lwm2m.Server, registry presence) {
	srv.Watch(func(e lwm2m.RegistrationEvent) {
		switch e.Kind {
		case lwm2m.EventRegistered, lwm2m.EventUpdated:
			registry.Online(e.Registration.Endpoint, e.Registration.Address)
		case lwm2m.EventDeregistered, lwm2m.EventExpired:
			registry.Offline(e.Registration.Endpoint)
		}
	})
}

type tenant struct {
	name     string
	db       store.Store
	images   *firmware.Repository
	delivery *firmware.Delivery
	manager  *firmware.Manager
	owns     func(endpoint string) bool
}

func (t *tenant) Owns(endpoint string) bool { return t.owns(endpoint) }

// byTenant keeps each registration in the store of the tenant that owns the endpoint.
type byTenant []*tenant

func (b byTenant) of(endpoint string) (lwm2m.RegistrationStore, error) {
	for _, t := range b {
		if t.owns(endpoint) {
			return firmware.Registrations(t.db), nil
		}
	}
	return nil, fmt.Errorf("no tenant owns %q", endpoint) // Authorize refuses such an endpoint before
}

func (b byTenant) PutRegistration(ctx context.Context, r lwm2m.Registration) error {
	s, err := b.of(r.Endpoint)
	if err != nil {
		return err
	}
	return s.PutRegistration(ctx, r)
}

// PutRegistrations stores renewals of many devices, in one commit for each tenant.
func (b byTenant) PutRegistrations(ctx context.Context, list []lwm2m.Registration) error {
	type many interface {
		PutRegistrations(context.Context, []lwm2m.Registration) error
	}
	for _, t := range b {
		own := slices.Clone(list)
		own = slices.DeleteFunc(own, func(r lwm2m.Registration) bool { return !t.owns(r.Endpoint) })
		if err := firmware.Registrations(t.db).(many).PutRegistrations(ctx, own); err != nil {
			return err
		}
	}
	return nil
}

func (b byTenant) DeleteRegistration(ctx context.Context, endpoint string) error {
	s, err := b.of(endpoint)
	if err != nil {
		return err
	}
	return s.DeleteRegistration(ctx, endpoint)
}

func (b byTenant) Registrations(ctx context.Context) iter.Seq2[lwm2m.Registration, error] {
	return func(yield func(lwm2m.Registration, error) bool) {
		for _, t := range b {
			for r, err := range firmware.Registrations(t.db).Registrations(ctx) {
				if !yield(r, err) {
					return
				}
			}
		}
	}
}

var _ lwm2m.RegistrationStore = byTenant{}

func _(tenant *tenant) lwm2m.ServerConfig {
	return lwm2m.ServerConfig{
		Authorize: func(ctx context.Context, r lwm2m.Registration) error {
			if !tenant.Owns(r.Endpoint) {
				return lwm2m.ErrForbidden
			}
			return nil
		},
	}
}

func _(db store.Store, blobs firmware.Blobs) (*firmware.Repository, error) {
	images, err := firmware.NewRepository(blobs, db, firmware.RepositoryConfig{Spool: "/var/cache/ota"})
	return images, err
}

func _(srv *lwm2m.Server, db store.Store, images *firmware.Repository, sign func(uri string) string) (*firmware.Manager, error) {
	mgr, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{
		PackageURI: func(ctx context.Context, u firmware.Update, p firmware.Protocol) (string, error) {
			if p != firmware.ProtocolHTTPS {
				return "", nil // not by this protocol
			}
			return sign("https://cdn.example.com/firmware/" + u.Machine.Plan.Digest), nil
		},
	})
	return mgr, err
}

func _(srv *lwm2m.Server, handler http.Handler, tenants []*tenant) (_ http.Handler, err error) {
	for _, t := range tenants {
		t.delivery, err = firmware.NewDelivery(t.images, firmware.DeliveryConfig{Prefix: "/" + t.name + "/", PublicPrefix: "/public/" + t.name + "/"})
		if err != nil {
			return nil, err
		}
		srv.HandleFunc("/"+t.name+"/", t.delivery.ServeCoAP)
		srv.HandleFunc("/public/"+t.name+"/", t.delivery.ServeCoAP)
		handler = t.delivery.Wrap(handler)
		t.manager, err = firmware.NewManager(srv, t.db, t.images, firmware.ManagerConfig{Delivery: t.delivery, Owns: t.owns})
		if err != nil {
			return nil, err
		}
	}
	return handler, err
}

func _(tenantOf func(endpoint string) string, awake map[string]time.Duration) lwm2m.ServerConfig {
	return lwm2m.ServerConfig{
		Authorize: func(ctx context.Context, r lwm2m.Registration) error {
			if tenant, ok := r.Attribute("tenant"); ok && tenant != tenantOf(r.Endpoint) {
				return lwm2m.ErrForbidden
			}
			return nil
		},
		AwakeTimeOf: func(r lwm2m.Registration) time.Duration { // 0 is that of all devices, AwakeTime
			model, _ := r.Attribute("model")
			return awake[model]
		},
	}
}

func _(ctx context.Context, srv *lwm2m.Server, rollouts *rollout.Manager, id string) {
	srv.Watch(func(e lwm2m.RegistrationEvent) {
		if e.Kind != lwm2m.EventRegistered {
			return
		}
		go func() { // Watch must not wait
			if _, err := rollouts.Add(ctx, id, e.Registration.Endpoint, rollout.Order{Actor: "registry"}); err != nil {
				log.Print(err)
			}
		}()
	})
}

// mountPage is doc/console.md's.
func mountPage(mux *http.ServeMux, manager *firmware.Manager, rollouts *rollout.Manager, staffOnly func(*http.Request, httpapi.Access) error) error {
	api, err := httpapi.New(manager, staffOnly, httpapi.Config{Rollouts: rollouts})
	if err != nil {
		return err
	}
	page, err := console.New(console.Config{API: "/ota/api/v1", Name: "Staging"})
	if err != nil {
		return err
	}
	mux.Handle("/ota/", api)
	mux.Handle("/console/", http.StripPrefix("/console", page))
	return nil
}

var _ = mountPage
