package kv

import (
	"bytes"
	"cmp"
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/otago-iot/otago/internal/record"
	"github.com/otago-iot/otago/store"
)

// A fact of a device is its version, what it says of itself, or a label. A device whose fact has a
// value is in the index of that value, and counts among the devices that have it; an empty value of
// a fact other than a label is no value.
const (
	factVersion      = "v"
	factManufacturer = "m"
	factModel        = "o"
	factHardware     = "h"
	factLabel        = "." // and the name of the label
)

// allDevices is the key of the number of all devices in deviceCounts.
var allDevices = []byte("all")

// factKey returns the key of a device in byFact. Without an endpoint it is the prefix of all that
// have the value.
func factKey(fact, value, endpoint string) []byte { return join(fact, join(value, endpoint)) }

// reindex changes what the index and the counts have of a device from old to now.
func (o *overlay) reindex(endpoint string, old, now *store.Device) {
	o.move(endpoint, factVersion, old.Firmware.Version, now.Firmware.Version)
	o.move(endpoint, factManufacturer, old.Facts.Manufacturer, now.Facts.Manufacturer)
	o.move(endpoint, factModel, old.Facts.Model, now.Facts.Model)
	o.move(endpoint, factHardware, old.Facts.Hardware, now.Facts.Hardware)
	for name, value := range old.Labels {
		if kept, ok := now.Labels[name]; !ok || kept != value {
			o.unlist(endpoint, factLabel+name, value)
		}
	}
	for name, value := range now.Labels {
		if had, ok := old.Labels[name]; !ok || had != value {
			o.list(endpoint, factLabel+name, value)
		}
	}
}

// move changes the value of a fact that is no label.
func (o *overlay) move(endpoint, fact, old, now string) {
	if old == now {
		return
	}
	if old != "" {
		o.unlist(endpoint, fact, old)
	} else {
		o.countDevices(withFact(fact), 1)
	}
	if now != "" {
		o.list(endpoint, fact, now)
	} else {
		o.countDevices(withFact(fact), -1)
	}
}

// withFact returns the key in deviceCounts of the number of devices that have any value of a fact.
func withFact(fact string) []byte { return join(fact, "") }

func (o *overlay) list(endpoint, fact, value string) {
	o.put(byFact, factKey(fact, value, endpoint), mark)
	o.countDevices(join(fact, value), 1)
}

func (o *overlay) unlist(endpoint, fact, value string) {
	o.delete(byFact, factKey(fact, value, endpoint))
	o.countDevices(join(fact, value), -1)
}

// countDevices changes how many devices have a fact.
func (o *overlay) countDevices(key []byte, by int) {
	if n := int(parseNumber(o.get(deviceCounts, key))) + by; n > 0 {
		o.put(deviceCounts, key, number(uint64(n)))
	} else {
		o.delete(deviceCounts, key)
	}
}

// putRegistration keeps the rest of the old record without decoding it. A registration that only
// has new times is a sighting, and the record stays as it is: most of what a server stores of its
// devices are renewals.
func putRegistration(o *overlay, endpoint string, r store.RegistrationRecord) error {
	key := []byte(endpoint)
	r.Secured = r.Secured || o.has(secured, key)
	if r.Secured {
		o.put(secured, key, mark)
	}
	times := sighting{r.Updated, r.LastSeen}
	r.Updated, r.LastSeen = time.Time{}, time.Time{}
	data := o.get(devices, key)
	old, err := unseal(key, data)
	kept, readable := record.From(old, deviceFirmware)
	readable = readable && err == nil
	o.device = store.Device{Registration: r}
	switch {
	case data == nil:
		o.countDevices(allDevices, 1)
	case !readable:
		kept, o.device.Labels = nil, o.salvage(endpoint)
	}
	o.buffer, err = deviceCodec.AppendRange(append(o.buffer[:0], make([]byte, sealSize)...), &o.device, deviceRegistration, deviceLabels)
	if err != nil {
		return err
	}
	o.buffer = append(o.buffer, kept...)
	if !readable || !bytes.Equal(o.buffer[sealSize:], old) {
		seal(key, o.buffer)
		o.put(devices, key, bytes.Clone(o.buffer))
	}
	o.buffer, err = sightingCodec.Append(append(o.buffer[:0], make([]byte, sealSize)...), &times)
	if err != nil {
		return err
	}
	seal(key, o.buffer)
	o.put(seen, key, bytes.Clone(o.buffer))
	return nil
}

// putDevice changes a record, or makes one. Of a damaged record it keeps what stands beside it.
func putDevice(o *overlay, endpoint string, set func(*store.Device)) error {
	key := []byte(endpoint)
	data := o.get(devices, key)
	o.device = store.Device{}
	switch d, err := deviceKind.decode(key, data); {
	case data == nil:
		o.countDevices(allDevices, 1)
	case err != nil:
		o.delete(seen, key)
		o.device.Labels = o.salvage(endpoint)
	default:
		o.device = d
	}
	old := o.device
	set(&o.device)
	o.reindex(endpoint, &old, &o.device)
	o.device.Registration.Secured = o.device.Registration.Secured || o.has(secured, key)
	return deviceKind.put(o, key, &o.device)
}

func deleteDevice(o *overlay, endpoint string) error {
	if id := o.get(activeOf, []byte(endpoint)); id != nil {
		return &store.UpdateError{Err: store.ErrActive, ID: string(id)}
	}
	if !o.has(devices, []byte(endpoint)) {
		return store.ErrNotFound
	}
	o.dropDevice(endpoint)
	o.delete(secured, []byte(endpoint))
	return nil
}

// dropDevice removes a record, and what the index and the counts have of it.
func (o *overlay) dropDevice(endpoint string) {
	key := []byte(endpoint)
	old, err := deviceKind.decode(key, o.get(devices, key))
	if err != nil {
		old.Labels = o.salvage(endpoint)
	}
	o.reindex(endpoint, &old, &store.Device{})
	o.countDevices(allDevices, -1)
	o.delete(devices, key)
	o.delete(seen, key)
}

// removeDevice replaces a damaged record by one that has only what stands beside it, or removes it
// if there is nothing.
func removeDevice(o *overlay, endpoint string) (found bool, err error) {
	key := []byte(endpoint)
	data := o.get(devices, key)
	if data == nil {
		return false, nil
	}
	if _, err := deviceKind.decode(key, data); err == nil {
		return false, store.ErrNotDamaged
	}
	if err := putDevice(o, endpoint, func(*store.Device) {}); err != nil {
		return false, err
	}
	if !o.has(secured, key) && len(o.device.Labels) == 0 {
		o.dropDevice(endpoint)
	}
	return true, nil
}

// Bounds of salvage. A fleet has some hundreds of values, unless its labels are serial numbers.
// What is beyond stays in the index, where queries pass over what a record does not have.
const (
	maxSalvage       = 20_000 // values that it looks at
	maxSalvageOfFact = 4000   // of one fact
)

// salvage finds in the index what a damaged record of a device had. It removes the facts, which
// the next reading brings back, and returns the labels, which nothing would bring back.
func (o *overlay) salvage(endpoint string) map[string]string {
	var labels map[string]string
	var from []byte
	fact, values := "", 0
	for range maxSalvage {
		var prefix []byte
		for key := range o.Ascend(byFact, from) {
			prefix = bytes.Clone(key[:len(key)-len(rest(rest(key)))])
			break
		}
		if prefix == nil {
			break
		}
		if f := string(text(prefix)); f != fact {
			fact, values = f, 0
		}
		if o.has(byFact, append(prefix[:len(prefix):len(prefix)], endpoint...)) {
			value := string(text(rest(prefix)))
			if name, ok := strings.CutPrefix(fact, factLabel); ok {
				if labels == nil {
					labels = make(map[string]string)
				}
				labels[name] = value
			} else {
				o.move(endpoint, fact, value, "")
			}
		}
		if from, values = after(prefix), values+1; values == maxSalvageOfFact {
			from = after(join(fact, ""))
		}
		if from == nil {
			break
		}
	}
	return labels
}

// maxMerged limits how many versions a query merges. One for more reads all devices.
const maxMerged = 64

// deviceLists returns ranges of byFact: the query selects the devices that are in one of the ranges
// of each list, and the first list has the fewest devices.
func deviceLists(r Reader, q *store.DeviceQuery) (lists [][][]byte) {
	type sized struct {
		ranges  [][]byte
		devices uint64
	}
	var all []sized
	add := func(fact string, values ...string) {
		var l sized
		for _, value := range values {
			l.ranges = append(l.ranges, factKey(fact, value, ""))
			l.devices += parseNumber(r.Get(deviceCounts, join(fact, value)))
		}
		all = append(all, l)
	}
	for name, value := range q.Labels {
		add(factLabel+name, value)
	}
	if q.Manufacturer != "" {
		add(factManufacturer, q.Manufacturer)
	}
	if q.Model != "" {
		add(factModel, q.Model)
	}
	if q.Hardware != "" {
		add(factHardware, q.Hardware)
	}
	if n := len(q.Versions); n > 0 && n <= maxMerged && !slices.Contains(q.Versions, "") {
		add(factVersion, slices.Compact(slices.Sorted(slices.Values(q.Versions)))...)
	}
	slices.SortFunc(all, func(a, b sized) int { return cmp.Compare(a.devices, b.devices) })
	for _, l := range all {
		lists = append(lists, l.ranges)
	}
	return lists
}

// merged yields the endpoints in some ranges of an index, by rising endpoint, from one on. Each is
// in one range only.
func merged(r Reader, ranges [][]byte, from []byte) iter.Seq2[[]byte, []byte] {
	within := func(prefix []byte) iter.Seq2[[]byte, []byte] {
		return func(yield func(endpoint, value []byte) bool) {
			for key, value := range r.Ascend(byFact, append(bytes.Clone(prefix), from...)) {
				if !bytes.HasPrefix(key, prefix) || !yield(key[len(prefix):], value) {
					return
				}
			}
		}
	}
	if len(ranges) == 1 {
		return within(ranges[0])
	}
	return func(yield func(endpoint, value []byte) bool) {
		type head struct {
			endpoint []byte
			next     func() ([]byte, []byte, bool)
		}
		var heads []head
		for _, prefix := range ranges {
			next, stop := iter.Pull2(within(prefix))
			defer stop()
			if endpoint, _, ok := next(); ok {
				heads = append(heads, head{endpoint, next})
			}
		}
		for len(heads) > 0 {
			least := 0
			for i := range heads {
				if bytes.Compare(heads[i].endpoint, heads[least].endpoint) < 0 {
					least = i
				}
			}
			h := &heads[least]
			if !yield(h.endpoint, mark) {
				return
			}
			if endpoint, _, ok := h.next(); ok {
				h.endpoint = endpoint
			} else {
				heads = slices.Delete(heads, least, least+1)
			}
		}
	}
}

// Devices implements store.Store.
func (s *Store) Devices(ctx context.Context, q store.DeviceQuery) iter.Seq2[store.Device, error] {
	return func(yield func(store.Device, error) bool) {
		var lists [][][]byte
		if err := s.view(ctx, func(r Reader) error {
			lists = deviceLists(r, &q)
			return nil
		}); err != nil {
			yield(store.Device{}, err)
			return
		}
		sc := scan{table: devices}
		if q.After != "" {
			sc.last = []byte(q.After)
		}
		if len(lists) > 0 {
			first := lists[0]
			lists = lists[1:]
			sc.walk = func(r Reader, from []byte) iter.Seq2[[]byte, []byte] { return merged(r, first, from) }
		}
		load := func(r Reader, key, value []byte) (store.Device, bool, error) {
			for _, ranges := range lists {
				if !slices.ContainsFunc(ranges, func(prefix []byte) bool {
					return r.Get(byFact, append(prefix[:len(prefix):len(prefix)], key...)) != nil
				}) {
					return store.Device{Endpoint: string(key)}, false, nil
				}
			}
			if sc.walk != nil {
				value = r.Get(devices, key)
			}
			var d store.Device
			err := readDevice(r, key, value, &d)
			d.Registration.Secured = d.Registration.Secured || r.Get(secured, key) != nil
			return d, err != nil || q.Selects(&d), err
		}
		bare := func(d store.Device) store.Device { return store.Device{Endpoint: d.Endpoint} }
		query(ctx, s, sc, q.Limit, load, q.Filter, bare)(yield)
	}
}

// DeviceCounts implements store.Store.
func (s *Store) DeviceCounts(ctx context.Context) (c store.DeviceCounts, err error) {
	err = s.view(ctx, func(r Reader) error {
		c = store.DeviceCounts{Devices: parseNumber(r.Get(deviceCounts, allDevices))}
		c.WithVersion, c.Versions = countsOf(r, factVersion)
		c.WithModel, c.Models = countsOf(r, factModel)
		return nil
	})
	return c, err
}

// countsOf returns how many devices have a fact, and the counts of its lowest values.
func countsOf(r Reader, fact string) (with uint64, all []store.DeviceCount) {
	prefix := withFact(fact)
	for key, n := range r.Ascend(deviceCounts, prefix) {
		if !bytes.HasPrefix(key, prefix) || len(all) == store.MaxDeviceCounts {
			break
		}
		if value := string(rest(key)); value != "" {
			all = append(all, store.DeviceCount{Value: value, Devices: parseNumber(n)})
		} else {
			with = parseNumber(n)
		}
	}
	return with, all
}
