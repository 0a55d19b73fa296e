package lwm2m

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/otago-iot/otago/internal/coap"
)

// register registers. Observations of before are gone, which must be so before the server can make new ones.
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
	told := c.control.told()
	queries := []string{"lwm2m=" + l.version.String(), "ep=" + c.config.Endpoint, told.lifetimeQuery()}
	queries = append(queries, l.bindingQueries(told.binding)...)
	resp, err := l.do(ctx, &coap.Request{
		Code: coap.POST, Path: []string{"rd"}, Queries: queries,
		ContentFormat: coap.FormatOf(uint16(FormatLink)), Payload: []byte(list),
	})
	if err != nil {
		if c.refused(told, err, true) && errors.Is(err, ErrPreconditionFailed) {
			// It was not about the version: the next one is the highest again.
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
		c.refused(told, err, true)
		return err
	}
	l.listed, l.told = list, told
	c.control.accepted(told)
	c.log.Info("registered", slog.String("lwm2m", l.version.String()))
	c.setRegistered(true)
	return nil
}

// refused looks whether a Register or an Update with told failed because of something in it that the server wrote, and reports
// whether the client has gone back to what the server took last.
func (c *Client) refused(told told, err error, register bool) bool {
	doubt := doubtSilent
	if answer, ok := errors.AsType[*ResponseError](err); ok {
		doubt = maxDoubt
		switch answer.Code {
		case CodeNotFound, CodeUnavailable, CodeTooManyRequests:
			doubt = doubtBusy
		case CodePreconditionFailed: // an Update says no version
			if register {
				doubt = doubtBusy
			}
		}
	}
	good, back := c.control.refused(told, doubt)
	if back {
		c.log.Warn("the server does not take what it wrote, the client goes back to what it took before", slog.Any("error", err),
			slog.Int64("lifetime", told.lifetime), slog.String("binding", told.binding),
			slog.Int64("lifetime before", good.lifetime), slog.String("binding before", good.binding))
		c.Notify(NewPath(1, 0, serverLifetime), NewPath(1, 0, serverBinding))
	}
	return back
}

// bindingQueries says how the device can be reached, if it is not the default.
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

// changed reports whether the server should be told something.
func (l *link) changed(ctx context.Context) bool {
	c := l.client
	c.mu.Lock()
	forced := c.forced
	c.mu.Unlock()
	return forced || c.control.told() != l.told || l.relist(ctx) != l.listed
}

// relist returns the object list, or what the server knows if the objects do not say.
func (l *link) relist(ctx context.Context) string {
	list, err := l.client.list(ctx, l.version)
	if err != nil {
		l.client.log.Warn("objects not listed", slog.Any("error", err))
		return l.listed
	}
	return list
}

// update sends an Update with what has changed, and another one if the server does not take what it wrote.
func (l *link) update(ctx context.Context) error {
	c := l.client
	c.mu.Lock()
	c.forced = false
	c.mu.Unlock()
	told := c.control.told()
	err := l.tell(ctx, told)
	if err != nil && c.refused(told, err, false) {
		err = l.tell(ctx, c.control.told())
	}
	return err
}

// tell sends an Update.
func (l *link) tell(ctx context.Context, told told) error {
	msg := &coap.Request{Code: coap.POST, Path: l.location}
	if told.lifetime != l.told.lifetime {
		msg.Queries = append(msg.Queries, told.lifetimeQuery())
	}
	if told.binding != l.told.binding {
		msg.Queries = append(msg.Queries, l.bindingQueries(told.binding)...)
	}
	list := l.relist(ctx)
	if list != l.listed {
		msg.ContentFormat, msg.Payload = coap.FormatOf(uint16(FormatLink)), []byte(list)
	}
	if _, err := l.do(ctx, msg); err != nil {
		return err
	}
	l.told, l.listed = told, list
	l.client.control.accepted(told)
	return nil
}

// updateDue returns how long from now the next Update should be: a MAX_TRANSMIT_WAIT before the lifetime ends, so that
// retransmissions fit in, but not before half of it.
func (l *link) updateDue() time.Duration {
	lt := time.Duration(l.told.lifetime) * time.Second
	return lt - min(lt/2, 93*time.Second)
}

// deregister says farewell, if the server is there to hear it.
func (l *link) deregister(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deregisterTimeout)
	defer cancel()
	if _, err := l.do(ctx, &coap.Request{Code: coap.DELETE, Path: l.location}); err != nil {
		l.client.log.Info("not de-registered", slog.Any("error", err))
	}
}

// list returns the object list as the server is told, and has the objects follow the version.
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
