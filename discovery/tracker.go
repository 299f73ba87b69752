package discovery

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// AlertKind says what is strange about a device's address.
type AlertKind uint8

const (
	// TwoAddresses: the MAC answers at two IPv4 addresses of one link at a time.
	TwoAddresses AlertKind = iota + 1
	// AddressTaken: the address where the device was now answers with another MAC, or with two.
	AddressTaken
	// Flapping: the device changed its address again and again.
	Flapping
)

// String is the word for logs.
func (k AlertKind) String() string {
	switch k {
	case TwoAddresses:
		return "mac at two addresses"
	case AddressTaken:
		return "address taken by another mac"
	case Flapping:
		return "address keeps changing"
	}
	return fmt.Sprintf("alert %d", k)
}

// Alert reports what may be a misconfigured network or somebody who answers for others.
type Alert struct {
	Kind  AlertKind
	MAC   MAC
	Addrs []netip.Addr
	Other MAC // for AddressTaken: who answers there now
}

const (
	maxTracked  = 4096 // devices; the one not looked for the longest goes first
	flapWindow  = 10 * time.Minute
	flapChanges = 3
	alertEvery  = 10 * time.Minute // the same alert is not repeated sooner
	maxAlerts   = 16               // kept for each device, to know what was said
)

// tracker remembers where devices were, and decides what is strange. Pure but for what it remembers.
type tracker struct {
	devices map[MAC]*track
}

type track struct {
	last    target
	seen    time.Time
	changes []time.Time
	said    map[string]time.Time
}

// where is the last known place of the device.
func (t *tracker) where(mac MAC) (target, bool) {
	d := t.devices[mac]
	if d == nil || !d.last.Addr.IsValid() {
		return target{}, false
	}
	return d.last, true
}

// observe looks at the table for what is strange about mac. Stale lines count for nothing: a device may move.
func (t *tracker) observe(now time.Time, mac MAC, entries []entry) []Alert {
	d := t.device(now, mac)
	at := make(map[int][]netip.Addr)
	var out []Alert
	for _, e := range entries {
		if !e.Fresh || !deviceAddr(e.Addr) {
			continue
		}
		if e.MAC == mac && e.Addr.Is4() {
			at[e.Index] = append(at[e.Index], e.Addr)
		}
		if e.MAC != mac && d.last == (target{e.Index, e.Addr}) {
			out = d.say(now, out, Alert{AddressTaken, mac, []netip.Addr{e.Addr}, e.MAC})
		}
	}
	for _, addrs := range at {
		if len(addrs) > 1 {
			slices.SortFunc(addrs, netip.Addr.Compare)
			out = d.say(now, out, Alert{Kind: TwoAddresses, MAC: mac, Addrs: addrs})
		}
	}
	return out
}

// contested notes that addr answered both as mac and as other.
func (t *tracker) contested(now time.Time, mac MAC, addr netip.Addr, other MAC) []Alert {
	return t.device(now, mac).say(now, nil, Alert{AddressTaken, mac, []netip.Addr{addr}, other})
}

// found notes where the device is now.
func (t *tracker) found(now time.Time, mac MAC, at target) []Alert {
	d := t.device(now, mac)
	d.seen = now
	before := d.last
	d.last = at
	if !before.Addr.IsValid() || before == at || before.Addr.Is4() != at.Addr.Is4() {
		return nil
	}
	d.changes = slices.DeleteFunc(append(d.changes, now), func(c time.Time) bool { return now.Sub(c) > flapWindow })
	if len(d.changes) < flapChanges {
		return nil
	}
	d.changes = d.changes[len(d.changes)-flapChanges:]
	return d.say(now, nil, Alert{Kind: Flapping, MAC: mac, Addrs: []netip.Addr{before.Addr, at.Addr}})
}

func (t *tracker) device(now time.Time, mac MAC) *track {
	if d := t.devices[mac]; d != nil {
		return d
	}
	if t.devices == nil {
		t.devices = make(map[MAC]*track)
	}
	if len(t.devices) >= maxTracked {
		var oldest MAC
		var when time.Time
		for m, d := range t.devices {
			if when.IsZero() || d.seen.Before(when) || (d.seen.Equal(when) && slices.Compare(m[:], oldest[:]) < 0) {
				oldest, when = m, d.seen
			}
		}
		delete(t.devices, oldest)
	}
	d := &track{seen: now, said: make(map[string]time.Time)}
	t.devices[mac] = d
	return d
}

func (d *track) say(now time.Time, out []Alert, a Alert) []Alert {
	key := fmt.Sprint(a.Kind, a.Addrs, a.Other)
	if a.Kind == Flapping {
		key = a.Kind.String()
	}
	if last, ok := d.said[key]; ok && now.Sub(last) < alertEvery {
		return out
	}
	if len(d.said) >= maxAlerts {
		var oldest string
		for k, v := range d.said {
			if oldest == "" || cmp.Or(v.Compare(d.said[oldest]), cmp.Compare(k, oldest)) < 0 {
				oldest = k
			}
		}
		delete(d.said, oldest)
	}
	d.said[key] = now
	return append(out, a)
}
