package lwm2m

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/work"
)

// register registers. It first drops the observations of an earlier registration, before the server
// can make new ones.
func (l *link) register(ctx context.Context) error {
	c := l.client
	c.mu.Lock()
	l.version = c.version
	c.forced = false
	c.mu.Unlock()
	l.notifier.clear()
	list, err := c.list(ctx, l.version)
	if err != nil {
		return err
	}
	announced := c.control.announced()
	queries := []string{"lwm2m=" + l.version.String(), "ep=" + c.config.Endpoint, announced.lifetimeQuery()}
	queries = append(queries, l.bindingQueries(announced.binding)...)
	for _, name := range slices.Sorted(maps.Keys(c.config.Attributes)) {
		queries = append(queries, name+"="+c.config.Attributes[name])
	}
	resp, err := l.do(ctx, &coap.Request{
		Code: coap.POST, Path: []string{"rd"}, Queries: queries,
		ContentFormat: coap.FormatOf(uint16(FormatLink)), Payload: []byte(list),
	})
	if err != nil {
		if c.refused(announced, err, true) && errors.Is(err, ErrPreconditionFailed) {
			// The server refused the settings, not the version: start again with the highest
			// version.
			err = fmt.Errorf("%w: %v", ErrRefused, err)
			c.mu.Lock()
			c.version, _ = parseLwM2MVersion(c.config.Version)
			c.mu.Unlock()
		}
		return err
	}
	l.location = nil
	for _, o := range resp.Options {
		if o.ID == coap.LocationPath {
			l.location = append(l.location, string(o.Value))
		}
	}
	if len(l.location) == 0 {
		err := fmt.Errorf("%w: the server gave no location", ErrRefused)
		c.refused(announced, err, true)
		return err
	}
	l.listed, l.announced = list, announced
	c.control.accepted(announced)
	c.log.Info("registered", slog.String("lwm2m", l.version.String()))
	c.setRegistered(true)
	return nil
}

// refused handles a failed Register or Update. If it failed because of settings that the server
// wrote, the client returns to those that the server accepted last, and refused reports true.
func (c *Client) refused(announced announced, err error, register bool) bool {
	doubt := doubtSilent
	if answer, ok := errors.AsType[*ResponseError](err); ok {
		doubt = maxDoubt
		switch answer.Code {
		case CodeNotFound, CodeUnavailable, CodeTooManyRequests:
			doubt = doubtBusy
		case CodePreconditionFailed: // an Update carries no version
			if register {
				doubt = doubtBusy
			}
		}
	}
	good, back := c.control.refused(announced, doubt)
	if back {
		c.log.Warn("the server refuses settings that it wrote, going back to the ones before", slog.Any("error", err),
			slog.Int64("lifetime", announced.lifetime), slog.String("binding", announced.binding),
			slog.Int64("lifetime before", good.lifetime), slog.String("binding before", good.binding))
		c.Notify(NewPath(1, 0, serverLifetime), NewPath(1, 0, serverBinding))
	}
	return back
}

// bindingQueries returns the parameters of the binding, none for the default.
func (l *link) bindingQueries(binding string) []string {
	queue := l.client.config.Queue || strings.Contains(binding, "Q")
	binding = strings.ReplaceAll(binding, "Q", "")
	if l.version.Minor == 0 && queue {
		return []string{"b=" + binding + "Q"}
	}
	var queries []string
	if binding != "U" {
		queries = append(queries, "b="+binding)
	}
	if queue {
		queries = append(queries, "Q")
	}
	return queries
}

// changed reports whether an Update is due: the server requested one, or settings or the object
// list have changed.
func (l *link) changed(ctx context.Context) bool {
	c := l.client
	c.mu.Lock()
	forced := c.forced
	c.mu.Unlock()
	return forced || c.control.announced() != l.announced || l.relist(ctx) != l.listed
}

// relist returns the object list, or the one that the server has if the objects fail to list.
func (l *link) relist(ctx context.Context) string {
	list, err := l.client.list(ctx, l.version)
	if err != nil {
		l.client.log.Warn("objects not listed", slog.Any("error", err))
		return l.listed
	}
	return list
}

// update sends an Update with what has changed, and a second one if the server refuses settings
// that it wrote.
func (l *link) update(ctx context.Context) error {
	c := l.client
	c.mu.Lock()
	c.forced = false
	c.mu.Unlock()
	announced := c.control.announced()
	err := l.sendUpdate(ctx, announced)
	if err != nil && c.refused(announced, err, false) {
		err = l.sendUpdate(ctx, c.control.announced())
	}
	return err
}

// sendUpdate sends one Update.
func (l *link) sendUpdate(ctx context.Context, announced announced) error {
	msg := &coap.Request{Code: coap.POST, Path: l.location}
	if announced.lifetime != l.announced.lifetime {
		msg.Queries = append(msg.Queries, announced.lifetimeQuery())
	}
	if announced.binding != l.announced.binding {
		msg.Queries = append(msg.Queries, l.bindingQueries(announced.binding)...)
	}
	list := l.relist(ctx)
	if list != l.listed {
		msg.ContentFormat, msg.Payload = coap.FormatOf(uint16(FormatLink)), []byte(list)
	}
	if _, err := l.do(ctx, msg); err != nil {
		return err
	}
	l.announced, l.listed = announced, list
	l.client.control.accepted(announced)
	return nil
}

// updateDue returns the time until the next Update: MAX_TRANSMIT_WAIT before the lifetime ends, so
// that retransmissions fit in, but not before half of the lifetime.
func (l *link) updateDue() time.Duration {
	lt := l.lifetime()
	return lt - min(lt/2, 93*time.Second)
}

// lifetime returns the lifetime of the registration that the server has.
func (l *link) lifetime() time.Duration { return time.Duration(l.announced.lifetime) * time.Second }

// deregister de-registers; best effort.
func (l *link) deregister(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deregisterTimeout)
	defer cancel()
	if _, err := l.do(ctx, &coap.Request{Code: coap.DELETE, Path: l.location}); err != nil {
		l.client.log.Info("not de-registered", slog.Any("error", err))
	}
}

// list returns the object list for a Register or Update, after it has passed the version to the
// objects.
func (c *Client) list(ctx context.Context, v Version) (string, error) {
	return call(ctx, c.calls, scopeClient, "Object", func() (string, error) {
		var list ObjectList
		if v.Minor > 0 {
			list.Formats = []ContentFormat{FormatCBOR, FormatSenMLJSON, FormatSenMLCBOR, FormatTLV}
			if v.Minor > 1 {
				list.Formats = append(list.Formats, FormatLwM2MCBOR)
			}
		}
		for _, id := range c.ids {
			o := c.objects[id]
			if f, ok := o.(VersionFollower); ok {
				f.FollowVersion(v)
			}
			list.Objects = append(list.Objects, ListedObject{ID: id, Version: objectVersion(o), Instances: o.Instances()})
		}
		return string(list.appendTo(nil)), nil
	}, nil)
}

// objectVersion returns the version of an object's definition, zero for 1.0.
func objectVersion(o Object) Version {
	text := o.Version()
	if text == "" {
		return Version{}
	}
	v, err := ParseVersion(text)
	if err != nil || v == (Version{Major: 1}) {
		return Version{}
	}
	return v
}

// registerPause returns the pause before another Register or Update, after one that failed with
// err. Up to half of it is random, so that the devices of a fleet that lost its server do not all
// return at once. If the server asks for a longer pause, err carries it.
func (c *Client) registerPause(pauses *work.Backoff, err error) time.Duration {
	pause := work.Spread(pauses.Next(c.config.MinRetry, c.config.MaxRetry))
	if later, ok := errors.AsType[*retryAfter](err); ok {
		pause = max(pause, min(later.after, c.config.MaxRetry))
	}
	return pause
}

// retryAfter is an error answer with a Max-Age, the time after which the client may ask again.
type retryAfter struct {
	error
	after time.Duration
}

func (e *retryAfter) Unwrap() error { return e.error }
