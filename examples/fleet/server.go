package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/telemetry"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/bolt"
	"github.com/otago-iot/otago/store/memory"
	"github.com/otago-iot/otago/store/postgres"
)

// serverRole configures the process of the server.
type serverRole struct {
	Fleet     fleet
	Dir       string // for its files, removed at the end
	Memory    bool   // keeps records in memory
	Postgres  string // URL of the database that has the records; "" for a bbolt file
	LogLevel  string
	Profiles  profiles
	Disk      time.Duration // how much longer each transaction takes
	Listen    serverReady   // addresses; empty for new ones
	Yardstick bool          // it is the yardstick
	Rollouts  bool          // it runs rollouts
	Telemetry bool          // it makes metrics and traces
}

// A pooledStore closes its pool, too.
type pooledStore struct {
	*postgres.Store
	pool *pgxpool.Pool
}

func (s *pooledStore) Close() error {
	defer s.pool.Close()
	return s.Store.Close()
}

// serverReady has the addresses of a listening server.
type serverReady struct{ CoAP, HTTP string }

// server is an update server made of this library, with all defaults.
type server struct {
	role     serverRole
	db       *countingStore
	logger   *slog.Logger
	manager  *firmware.Manager
	rollouts *rollout.Manager // nil without serverRole.Rollouts
	devices  *lwm2m.Server
	images   *firmware.Repository
	delivery *firmware.Delivery

	telemetry *telemetry.Telemetry // nil without serverRole.Telemetry

	udp net.PacketConn
	tcp net.Listener

	meter     meter
	actions   actions
	downloads atomic.Uint64
	race      atomic.Pointer[race]
	pace      atomic.Pointer[pace]
}

// readBuffer is the size of the receive buffer of the sockets of the yardstick and the devices, in
// bytes. The server asks for its own.
const readBuffer = 4 << 20

// runServer runs the process: it answers once it listens, and then answers each command until ctx
// ends.
func runServer(ctx context.Context, role serverRole, c console) (err error) {
	s := &server{role: role}
	if err := s.open(ctx); err != nil {
		return err
	}
	// The parent process may have been killed, and then cannot remove the files.
	defer func() { err = errors.Join(err, s.db.Close(), os.RemoveAll(role.Dir)) }()
	defer func() { err = errors.Join(err, s.role.Profiles.stop()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	api, err := httpapi.New(s.manager, httpapi.AllowAll, httpapi.Config{Logger: s.logger})
	if err != nil {
		return err
	}
	web := firmware.NewHTTPServer(countingHandler(s.delivery.Wrap(api), &s.downloads))
	group.Go(func() error { return s.devices.ServePacket(ctx, s.udp) })
	group.Go(func() error { return s.manager.Run(ctx) })
	group.Go(func() error { return firmware.RunHTTPServer(ctx, web, s.tcp) })
	if s.rollouts != nil {
		group.Go(func() error { return s.rollouts.Run(ctx) })
	}
	group.Go(func() error {
		s.meter.watch(ctx)
		return nil
	})
	group.Go(func() error {
		defer cancel()
		return obey(ctx, c, serverReady{CoAP: s.udp.LocalAddr().String(), HTTP: s.tcp.Addr().String()}, s.do)
	})
	return group.Wait()
}

// do carries out a command.
func (s *server) do(ctx context.Context, cmd command) (any, error) {
	switch {
	case cmd.State:
		state := stateOf(s.udp.LocalAddr(), cmd.Collect)
		state.Stored, state.Commits, state.Failed = s.db.registrations.Load(), s.db.commits.Load(), s.db.failed.Load()
		state.Busy = s.db.busy.add(0)
		span, err := s.manager.Span(ctx)
		state.Last = span.Last
		return state, err
	case cmd.Rollout != nil:
		return s.trial(ctx, *cmd.Rollout)
	case cmd.Ended > 0:
		return s.addEnded(ctx, cmd.Ended)
	default:
		return s.campaign(ctx, *cmd.Campaign)
	}
}

// obey says where a server listens, and then answers the commands of the parent process.
func obey(ctx context.Context, c console, ready serverReady, do func(context.Context, command) (any, error)) error {
	if err := c.answers.Encode(ready); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case cmd, ok := <-c.commands:
			if !ok {
				return nil
			}
			report, err := do(ctx, cmd)
			switch {
			case ctx.Err() != nil:
				return nil
			case err != nil:
				return err
			}
			if err := c.answers.Encode(report); err != nil {
				return err
			}
		}
	}
}

// open opens the store, the repository and the sockets.
func (s *server) open(ctx context.Context) (err error) {
	logger, err := cli.NewLogger(os.Stderr, s.role.LogLevel)
	if err != nil {
		return err
	}
	var db interface {
		store.Store
		store.Rollouts
	} = memory.New()
	switch {
	case s.role.Postgres != "":
		pool, err := pgxpool.New(ctx, s.role.Postgres)
		if err != nil {
			return err
		}
		if err := postgres.Migrate(ctx, pool); err != nil {
			pool.Close()
			return err
		}
		records, err := postgres.Standby(ctx, pool, postgres.Config{Namespace: filepath.Base(s.role.Dir)})
		if err != nil {
			pool.Close()
			return err
		}
		db = &pooledStore{records, pool}
	case !s.role.Memory:
		if db, err = bolt.Open(s.database(), bolt.Config{}); err != nil {
			return err
		}
	}
	s.logger = logger
	s.db = &countingStore{Store: db}
	if s.role.Disk > 0 {
		s.db.disk = newSlowDisk(ctx, s.role.Disk)
	}
	s.actions.take()
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	hooks, serverHooks, records := firmware.Hooks{Ended: s.ended, ActionEnd: s.actions.end}, lwm2m.ServerHooks{}, store.Store(s.db)
	if s.role.Telemetry {
		if s.telemetry, err = newTelemetry(); err != nil {
			return err
		}
		hooks, serverHooks, records = s.telemetry.Hooks(), s.telemetry.ServerHooks(), s.telemetry.Store(s.db)
		measured := hooks.Ended
		hooks.ActionEnd, hooks.Ended = s.actions.end, func(ctx context.Context, u firmware.Update) {
			measured(ctx, u)
			s.ended(ctx, u)
		}
	}
	if s.images, err = firmware.OpenRepository(filepath.Join(s.role.Dir, "images"), s.db, firmware.RepositoryConfig{}); err != nil {
		return err
	}
	var listen net.ListenConfig
	if s.udp, err = listen.ListenPacket(ctx, "udp4", cmp.Or(s.role.Listen.CoAP, "127.0.0.1:0")); err != nil {
		return err
	}
	if s.tcp, err = listen.Listen(ctx, "tcp4", cmp.Or(s.role.Listen.HTTP, "127.0.0.1:0")); err != nil {
		return err
	}
	s.devices, err = lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(records), Hooks: serverHooks, Logger: logger})
	if err != nil {
		return err
	}
	s.delivery, err = firmware.NewDelivery(s.images, firmware.DeliveryConfig{BaseURL: "http://" + s.tcp.Addr().String(), Logger: logger})
	if err != nil {
		return err
	}
	s.devices.HandleFunc("/", s.delivery.ServeCoAP)
	s.manager, err = firmware.NewManager(s.devices, records, s.images, firmware.ManagerConfig{
		Delivery: s.delivery,
		Logger:   logger,
		Hooks:    hooks,
		Keep: func(ctx context.Context, kind store.Kind, id string) (string, error) {
			if s.rollouts == nil {
				return "", nil
			}
			return s.rollouts.Keep(ctx, kind, id)
		},
	})
	if err == nil && s.telemetry != nil {
		s.telemetry.Observe(s.devices, s.manager, nil)
	}
	if err != nil || !s.role.Rollouts {
		return err
	}
	s.rollouts, err = rollout.NewManager(s.devices, s.manager, countingRollouts{db, s.db}, rollout.Config{Logger: logger})
	return err
}

// database returns the file of the store.
func (s *server) database() string { return filepath.Join(s.role.Dir, "ota.db") }

// ended implements firmware.Hooks.Ended.
func (s *server) ended(_ context.Context, u firmware.Update) {
	if r := s.race.Load(); r != nil {
		r.ended(u)
	}
	if p := s.pace.Load(); p != nil {
		p.ended(u)
	}
}
