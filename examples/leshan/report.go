package leshan

import (
	"slices"

	"github.com/otago-iot/otago/lwm2m"
)

// event takes an event of the server.
func (b *Bridge) event(e lwm2m.RegistrationEvent) {
	if !b.wanted(e.Registration.Endpoint) {
		return
	}
	switch e.Kind {
	case lwm2m.EventRegistered:
		b.registered(e.Registration)
	case lwm2m.EventUpdated:
		b.updated(e.Registration)
	case lwm2m.EventDeregistered, lwm2m.EventExpired:
		b.deregistered(e.Registration.Endpoint)
	}
}

// wanted reports whether Django takes an endpoint as it is.
func (b *Bridge) wanted(endpoint string) bool {
	if postableEndpoint(endpoint) {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.odd[endpoint] && len(b.odd) < 1024 {
		b.odd[endpoint] = true
		b.log.Warn("Django cannot keep this endpoint, and gets nothing of it", "endpoint", endpoint)
	}
	return false
}

// reconcile makes up for what an earlier process did not see or store: registrations that began or
// ended since, or that the server has not kept.
func (b *Bridge) reconcile() {
	for r := range b.server.Registrations() {
		switch {
		case !b.wanted(r.Endpoint):
		case r.Ended.IsZero():
			b.registered(r)
		default:
			b.deregistered(r.Endpoint)
		}
	}
	b.mu.Lock()
	var forgotten []string
	for endpoint := range b.devices {
		if _, known := b.server.Registration(endpoint); !known {
			forgotten = append(forgotten, endpoint)
		}
	}
	b.mu.Unlock()
	for _, endpoint := range forgotten {
		b.deregistered(endpoint)
	}
}

// registrationEvent returns the post of an event. Its value is the time of the Register, whichever
// event it is.
func registrationEvent(key, endpoint string, d *device) post {
	var id uint16
	switch key {
	case keyDeregistered:
		id = 1
	case keyUpdated:
		id = 2
	}
	return single(key, endpoint, 10240, singleValue{ID: id, Type: typeNames[lwm2m.TypeTime], Value: d.Since})
}

// registered tells of a Register, and begins the reads that follow it.
func (b *Bridge) registered(r lwm2m.Registration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.device(r.Endpoint)
	if d.Registration != r.ID && r.Registered.UnixMilli() >= d.Since {
		b.begins(d, r)
	}
}

// begins is registered for a registration that is new. The caller holds mu.
func (b *Bridge) begins(d *device, r lwm2m.Registration) {
	d.Registration, d.Since = r.ID, r.Registered.UnixMilli()
	d.observations = nil // they ended with the registration
	d.reading++
	if !d.onboarding {
		d.onboarding = true
		b.reads = append(b.reads, r.Endpoint)
	}
	b.tell(r.Endpoint, d, registrationEvent(keyRegistered, r.Endpoint, d))
	b.read()
}

// updated reports an Update, unless one is reported after the reads anyway.
func (b *Bridge) updated(r lwm2m.Registration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.device(r.Endpoint)
	if d.Registration == r.ID && !d.onboarding {
		b.tell(r.Endpoint, d, registrationEvent(keyUpdated, r.Endpoint, d))
	}
}

// deregistered tells of the end of a registration.
func (b *Bridge) deregistered(endpoint string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.devices[endpoint]
	if d == nil || d.Registration == "" {
		return
	}
	d.Registration, d.observations = "", nil
	b.tell(endpoint, d, registrationEvent(keyDeregistered, endpoint, d))
}

// read begins reads of devices that have registered, as many as there is room for. The caller holds
// mu.
func (b *Bridge) read() {
	for b.reading < maxReading && len(b.reads) > 0 {
		endpoint := b.reads[0]
		b.reads = b.reads[1:]
		b.reading++
		go b.readDevice(endpoint) // Go of the server may block until it has loaded the registrations
	}
}

// readDevice reads object 3 and object 5 of a device, and tells what it finds.
func (b *Bridge) readDevice(endpoint string) {
	b.mu.Lock()
	turn := b.device(endpoint).reading
	b.mu.Unlock()
	var about, update []lwm2m.Entry
	objects := lwm2m.ObjectList{}
	if r, ok := b.server.Registration(endpoint); ok {
		objects = r.Objects()
	}
	b.server.Go(lwm2m.Request{Endpoint: endpoint, Operation: lwm2m.OpRead, Path: lwm2m.NewPath(3), NoWait: true}, func(a lwm2m.Answer) {
		about = a.Entries
		if a.Err != nil {
			b.log.Info("a device does not show object 3", "endpoint", endpoint, "error", a.Err)
		}
		if !objects.Has(lwm2m.NewPath(5, 0)) {
			b.onboarded(endpoint, turn, about, nil)
			return
		}
		b.server.Go(lwm2m.Request{Endpoint: endpoint, Operation: lwm2m.OpRead, Path: lwm2m.NewPath(5, 0), NoWait: true}, func(a lwm2m.Answer) {
			update = a.Entries
			if a.Err != nil {
				b.log.Info("a device does not show object 5", "endpoint", endpoint, "error", a.Err)
			}
			b.onboarded(endpoint, turn, about, update)
		})
	})
}

// onboarded tells what was read after a Register: object 3, the version, State and Result in this
// order, then an update of the registration.
func (b *Bridge) onboarded(endpoint string, turn int, about, update []lwm2m.Entry) {
	busy := b.config.Busy(endpoint) != ""
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading--
	defer b.read()
	d := b.device(endpoint)
	if d.reading != turn { // it has registered again, and is read again
		b.reads = append(b.reads, endpoint)
		return
	}
	d.onboarding = false
	values := d.held
	d.held = nil
	for _, e := range update {
		if v, ok := e.Value.Int64(); ok && (e.Path == statePath || e.Path == resultPath) {
			values = append(values, heldValue{e.Path, v, true})
		}
	}
	var posts []post
	rest := slices.DeleteFunc(slices.Clone(about), func(e lwm2m.Entry) bool { return e.Path == versionPath })
	if object, ok := nodeOf(lwm2m.NewPath(3), rest, b.config.Types.accepts); ok && hasResources(object) {
		posts = append(posts, composite("/3", endpoint, object))
	}
	posts = append(posts, b.verdict(endpoint, d, about, values, busy)...)
	if d.Registration != "" {
		posts = append(posts, registrationEvent(keyUpdated, endpoint, d))
	}
	b.tell(endpoint, d, posts...)
	b.settle(endpoint, d, true)
}

// verdict returns the posts of what decides on an update: the version, then the Result, then State.
// A Result that says why the update failed comes first, since Django takes a version that is not
// the new one for a failure without a reason. The caller holds mu.
func (b *Bridge) verdict(endpoint string, d *device, about []lwm2m.Entry, values []heldValue, busy bool) []post {
	var states, results, versions []post
	for _, v := range values { // the State decides whether the version is a verdict
		if v.path == statePath {
			states = append(states, b.firmwareValue(endpoint, d, v, busy)...)
		}
	}
	takeVersion := func() {
		for _, e := range about {
			if e.Path == versionPath {
				versions = b.version(endpoint, d, e.Value)
			}
		}
	}
	failed := slices.ContainsFunc(values, func(v heldValue) bool {
		return v.path == resultPath && v.value > 1 && d.Result != nil && *d.Result != v.value
	})
	if !failed {
		takeVersion()
	}
	for _, v := range values {
		if v.path == resultPath {
			results = append(results, b.firmwareValue(endpoint, d, v, busy)...)
		}
	}
	if failed {
		takeVersion()
		return slices.Concat(results, versions, states)
	}
	return slices.Concat(versions, results, states)
}

// hasResources reports whether an object has a resource at all.
func hasResources(object node) bool {
	return slices.ContainsFunc(object.children, func(n node) bool { return len(n.children) > 0 })
}

// version returns the post of a version, if Django should get it. The caller holds mu.
func (b *Bridge) version(endpoint string, d *device, v lwm2m.Value) []post {
	typeName, value, ok := b.config.Types.accepts(versionPath, v)
	if text, isText := value.(string); !ok || !isText || !d.sawVersion(text) {
		return nil
	}
	return []post{single(versionPath.String(), endpoint, 3, singleValue{ID: 3, Type: typeName, Value: value})}
}

// firmwareValue takes a State or a Result, and returns its post if Django should get it. busy says
// that it belongs to an update that is not Django's. The caller holds mu.
func (b *Bridge) firmwareValue(endpoint string, d *device, v heldValue, busy bool) []post {
	saw := d.sawState
	if v.path == resultPath {
		saw = d.sawResult
	}
	news := saw(v.value, v.first)
	typeName, value, ok := b.config.Types.accepts(v.path, lwm2m.Integer(v.value))
	if !news || busy || !ok {
		return nil
	}
	return []post{single(v.path.String(), endpoint, 5, singleValue{ID: v.path.Resource(), Type: typeName, Value: value})}
}

// values takes values that a device has reported.
func (b *Bridge) values(v lwm2m.Values) {
	endpoint := v.Registration.Endpoint
	if v.Err != nil || !b.wanted(endpoint) { // the server has logged the error
		return
	}
	busy := b.config.Busy(endpoint) != ""
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.device(endpoint)
	if r := v.Registration; d.Registration != r.ID && r.Registered.UnixMilli() > d.Since {
		b.begins(d, r) // its event is still on the way
	}
	if v.Dropped > 0 {
		b.log.Warn("values of a device were dropped before the bridge saw them", "endpoint", endpoint, "count", v.Dropped)
	}
	var posts []post
	var rest []lwm2m.Entry
	for _, e := range v.Entries {
		switch e.Path {
		case versionPath:
			if !v.First {
				posts = append(posts, b.version(endpoint, d, e.Value)...)
			}
		case statePath, resultPath:
			i, ok := e.Value.Int64()
			switch held := (heldValue{e.Path, i, v.First}); {
			case !ok:
			case d.onboarding && len(d.held) < 16:
				d.held = append(d.held, held)
			case !d.onboarding:
				posts = append(posts, b.firmwareValue(endpoint, d, held, busy)...)
			}
		default:
			rest = append(rest, e)
		}
	}
	if !v.First { // Leshan tells only notifications
		posts = append(posts, b.others(endpoint, v, rest)...)
	}
	if len(posts) > 0 {
		b.tell(endpoint, d, posts...)
	} else if len(rest) < len(v.Entries) {
		b.record(endpoint, d)
	}
	if idle := slices.ContainsFunc(v.Entries, isIdle); idle && !v.First && d.Executed && !d.onboarding {
		go b.readResult(endpoint) // Go of the server may block until it has loaded the registrations
	}
	b.settle(endpoint, d, false)
}

// isIdle reports whether an entry says that the device is idle.
func isIdle(e lwm2m.Entry) bool {
	state, ok := e.Value.Int64()
	return e.Path == statePath && ok && state == stateIdle
}

// readResult reads the verdict of a device that is through with an install and did not register
// again. Its Result may be the one from before, and then no notification brings it.
func (b *Bridge) readResult(endpoint string) {
	b.server.Go(lwm2m.Request{Endpoint: endpoint, Operation: lwm2m.OpRead, Path: lwm2m.NewPath(5, 0), NoWait: true}, func(a lwm2m.Answer) {
		busy := b.config.Busy(endpoint) != ""
		b.mu.Lock()
		defer b.mu.Unlock()
		d := b.device(endpoint)
		if !d.Executed || d.onboarding || !slices.ContainsFunc(a.Entries, isIdle) {
			return // the verdict came another way, or is yet to come
		}
		for _, e := range a.Entries {
			if v, ok := e.Value.Int64(); ok && e.Path == resultPath && v != 0 {
				d.Result = nil
				b.tell(endpoint, d, b.firmwareValue(endpoint, d, heldValue{e.Path, v, false}, busy)...)
			}
		}
	})
}

// others returns the posts of values that have no rules of their own: one resource as a single,
// others as a composite, as Leshan tells an observation of a resource and a composite one.
func (b *Bridge) others(endpoint string, v lwm2m.Values, entries []lwm2m.Entry) []post {
	if len(entries) == 1 && entries[0].Path.IsResource() {
		e := entries[0]
		if typeName, value, ok := b.config.Types.accepts(e.Path, e.Value); ok {
			return []post{single(e.Path.String(), endpoint, e.Path.Object(), singleValue{ID: e.Path.Resource(), Type: typeName, Value: value})}
		}
		return nil
	}
	var posts []post
	for len(entries) > 0 {
		object := entries[0].Path.Prefix(1)
		if n, ok := nodeOf(object, entries, b.config.Types.accepts); ok && hasResources(n) {
			posts = append(posts, composite(object.String(), endpoint, n))
		}
		entries = slices.DeleteFunc(entries, func(e lwm2m.Entry) bool { return object.Contains(e.Path) })
	}
	return posts
}
