package lwm2m

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/work"
)

// Client is the device's side of LwM2M: it registers with one server and answers that server's
// requests from [Object]s.
//
// It has no Access Control object, and refuses requests from other addresses with 4.01. A write by
// the server counts as a change of the written values: see [Client.Notify].
type Client struct {
	config ClientConfig
	log    *slog.Logger
	server serverURI

	calls   *calls
	objects map[uint16]Object
	ids     []uint16 // of objects, ascending
	models  *Models  // in the versions of objects
	control *serverObject

	kick     chan struct{} // holds a token when the registration must be compared with the objects
	stop     chan struct{} // closed by Stop
	stopOnce sync.Once
	stopErr  error // set before stop is closed

	creating sync.Mutex // held during a Create

	mu         sync.Mutex
	started    bool
	version    Version // of the next Register
	link       *link   // nil without an association
	registered chan struct{}
	isReg      bool
	forced     bool // an Update is due even if nothing changed
	attributes map[Path]Attributes
}

// NewClient returns a client, or an error that says what is wrong with config. It starts nothing:
// see [Client.Run].
func NewClient(config ClientConfig) (*Client, error) {
	log := cmp.Or(config.Logger, slog.New(slog.DiscardHandler))
	c := &Client{
		config:     config,
		log:        log,
		calls:      newCalls(log),
		objects:    make(map[uint16]Object),
		kick:       make(chan struct{}, 1),
		stop:       make(chan struct{}),
		registered: make(chan struct{}),
		attributes: make(map[Path]Attributes),
	}
	c.models = &Models{of: &modelView{models: config.Models.view().models, device: c}}
	// Objects are code of the program: a panic becomes an error.
	_, err := work.Guard(log, "Object", func() (struct{}, error) { return struct{}{}, c.configure() })
	if err != nil {
		if errors.Is(err, work.ErrPanicked) {
			err = fmt.Errorf("Objects: %w", err)
		}
		return nil, fmt.Errorf("lwm2m: ClientConfig.%w", err)
	}
	return c, nil
}

// deregisterTimeout bounds a De-register.
const deregisterTimeout = 5 * time.Second

// Run registers and serves until ctx ends; then it de-registers, within 5 s, and returns nil. While
// the server cannot be reached, it retries; it repeats an Update that the server answers with 5.03
// or 4.29, as long as the registration lasts. [Client.Stop] and the error of a [Runner] end it
// without de-registering, and Run returns their error. It may be called once.
//
// When Run returns, all code of the program that it called has returned, and it calls none any
// more: objects, functions given to [AfterResponse], Listen. The contexts that it passes to them
// end with ctx. Run waits one minute for code that does not return, then logs it and returns. A
// panic is logged with its stack; the request is answered with 5.00, and a [Runner] counts as
// failed. A request whose answer takes longer than 5 min is answered with 5.03, and so are requests
// to an object in which 8 calls have not returned.
func (c *Client) Run(ctx context.Context) error {
	c.mu.Lock()
	again := c.started
	c.started = true
	c.mu.Unlock()
	if again {
		return fmt.Errorf("%w: a client runs once", ErrClosed)
	}
	select {
	case <-c.stop:
		return c.stopErr
	default:
	}
	running, cancel := context.WithCancel(ctx) // code of the program
	defer cancel()
	keeping, end := context.WithCancelCause(running) // the registration
	defer end(nil)
	var runners sync.WaitGroup
	runners.Go(func() {
		select {
		case <-c.stop:
			end(&leaving{err: c.stopErr, drains: true})
		case <-keeping.Done():
		}
	})
	for _, id := range c.ids {
		if o, ok := c.objects[id].(interface{ attach(c *Client) func() }); ok {
			defer o.attach(c)()
		}
		if r, ok := c.objects[id].(Runner); ok {
			runners.Go(func() {
				err := work.ErrPanicked // also if r.Run ends the goroutine
				defer func() {
					if err != nil && running.Err() == nil {
						end(&leaving{err: err})
					}
				}()
				_, err = work.Guard(c.log, "Runner", func() (struct{}, error) { return struct{}{}, r.Run(running, c) })
			})
		}
	}
	c.keepRegistered(keeping, running)
	end(nil)
	cancel()
	c.join(&runners)
	if why := leaves(keeping); why != nil {
		return why.err
	}
	return nil
}

// join waits for the program's code to return, and refuses further calls of it.
func (c *Client) join(runners *sync.WaitGroup) {
	late, stop := context.WithTimeout(context.Background(), joinLimit)
	defer stop()
	ended := make(chan struct{})
	go func() {
		runners.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-late.Done():
		c.log.Error("a Runner has not returned and is left behind", slog.Duration("after", joinLimit))
	}
	c.calls.close(late.Done())
}

// keepRegistered keeps the client registered until ctx ends. running is the context for code of the
// program.
func (c *Client) keepRegistered(ctx, running context.Context) {
	var pauses work.Backoff
	for ctx.Err() == nil {
		was, err := c.stay(ctx, running)
		if ctx.Err() != nil {
			return
		}
		if was {
			pauses = 0
			c.log.Warn("registration lost", slog.Any("error", err))
		} else {
			c.log.Warn("not registered", slog.Any("error", err))
		}
		if c.lowerVersion(err) {
			continue
		}
		work.Sleep(ctx, c.registerPause(&pauses, err))
	}
}

// lowerVersion chooses the next lower version for another attempt if the server refused the present
// one. After the lowest it returns to the highest, and reports false.
func (c *Client) lowerVersion(err error) bool {
	if !errors.Is(err, ErrPreconditionFailed) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.version.Minor == 0 {
		c.version, _ = parseLwM2MVersion(c.config.Version)
		return false
	}
	c.version.Minor--
	return true
}

// Notify reports that values at or below paths have changed, appeared or gone. The client reads
// them again and sends the notifications that the attributes of observations require; if the
// instances of an object have changed, it updates the registration. Notify does not block. Changes
// within 10 ms are handled together. A [ValueObject] calls it by itself.
func (c *Client) Notify(paths ...Path) {
	c.notify(paths)
	c.wake()
}

func (c *Client) notify(paths []Path) {
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	if l != nil {
		l.notifier.changed(paths)
	}
}

// wake requests a comparison of the registration with the objects.
func (c *Client) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// update asks for an Update, even if nothing changed.
func (c *Client) update() {
	c.mu.Lock()
	c.forced = true
	c.mu.Unlock()
	c.wake()
}

// Send sends values to the server without a request from it (LwM2M 1.1), and returns when the
// server has acknowledged them. The error is ErrNotRegistered if the client is not registered,
// ErrForbidden if the server muted it (1/x/23), ErrNotImplemented if it is registered with LwM2M
// 1.0.
func (c *Client) Send(ctx context.Context, entries []Entry) error {
	if c.control.isMuted() {
		return fmt.Errorf("%w: the server muted Send", ErrForbidden)
	}
	l := c.current()
	if l == nil {
		return ErrNotRegistered
	}
	if l.version.Minor == 0 {
		return fmt.Errorf("%w: LwM2M 1.0 has no Send", ErrNotImplemented)
	}
	body, err := AppendPayload(nil, FormatSenMLCBOR, Path{}, entries, c.models)
	if err != nil {
		return err
	}
	_, err = l.do(ctx, &coap.Request{
		Code: coap.POST, Path: []string{"dp"}, ContentFormat: coap.FormatOf(uint16(FormatSenMLCBOR)), Payload: body,
	})
	return err
}

// Fetch is [Fetch] over the association with the server, if the client is registered and uri has
// the scheme, host and port of [ClientConfig.Server]. Otherwise it is Fetch itself, with the
// credentials of config.
func (c *Client) Fetch(ctx context.Context, uri string, w io.Writer, config FetchConfig) (FetchResult, error) {
	target, err := parseFetchURI(uri)
	if err != nil {
		return FetchResult{Size: -1}, err
	}
	if l := c.current(); l != nil && target.server == c.server {
		return fetch(ctx, l.coap, l.peer, target, w, config)
	}
	return Fetch(ctx, uri, w, config)
}

// current returns the association if the client is registered.
func (c *Client) current() *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isReg {
		return nil
	}
	return c.link
}

// Registered reports whether the client is registered. The server may have dropped the registration
// since.
func (c *Client) Registered() bool { return c.current() != nil }

// WaitRegistered returns nil once the client is registered, or the error of ctx.
func (c *Client) WaitRegistered(ctx context.Context) error {
	c.mu.Lock()
	registered := c.registered
	c.mu.Unlock()
	select {
	case <-registered:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// setRegistered records whether the client is registered.
func (c *Client) setRegistered(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case yes && !c.isReg:
		close(c.registered)
	case !yes && c.isReg:
		c.registered = make(chan struct{})
	}
	c.isReg = yes
}
