package matrix

import (
	"slices"
	"testing"

	"culvert/tunnel"
)

func TestExpect(t *testing.T) {
	const d, m, p, r = tunnel.Direct, tunnel.Mapped, tunnel.Punched, tunnel.Relayed
	// The routes to each column's site; the table reads the same in both directions.
	columns := []Kind{Open, UPnP1, FullCone, PortRestricted, Carrier, DualStack, IPv6Only, Sequential, Symmetric, UDPBlocked}
	for kind, want := range map[Kind][]tunnel.Route{
		Open:           {d, d, d, d, d, d, d, d, d, r},
		UPnP1:          {d, m, m, m, m, m, r, m, m, r},
		UPnP2:          {d, m, m, m, m, m, r, m, m, r},
		NATPMP:         {d, m, m, m, m, m, r, m, m, r},
		PCP:            {d, m, m, m, m, m, r, m, m, r},
		FullCone:       {d, m, p, p, p, p, r, p, p, r},
		Restricted:     {d, m, p, p, p, p, r, p, p, r},
		PortRestricted: {d, m, p, p, p, p, r, p, p, r},
		PortHashed:     {d, m, p, p, p, p, r, p, p, r},
		Carrier:        {d, m, p, p, p, p, r, p, p, r},
		DualStack:      {d, m, p, p, p, p, p, p, p, r},
		IPv6Only:       {d, r, r, r, r, p, p, r, r, r},
		Sequential:     {d, m, p, p, p, p, r, r, r, r},
		Symmetric:      {d, m, p, p, p, p, r, r, r, r},
		UDPBlocked:     {r, r, r, r, r, r, r, r, r, r},
		HTTPSOnly:      {r, r, r, r, r, r, r, r, r, r},
		ProxyOnly:      {r, r, r, r, r, r, r, r, r, r},
	} {
		for i, column := range columns {
			for _, pair := range []Pair{{kind, column}, {column, kind}} {
				if got := pair.Expect(); got != want[i] {
					t.Errorf("%s to %s: %s, want %s", pair.User, pair.Device, got, want[i])
				}
			}
		}
	}
}

func TestHard(t *testing.T) {
	for pair, want := range map[Pair]struct {
		mapping Mapping
		hard    bool
	}{
		{PortRestricted, Symmetric}:      {ByChance, true},
		{Sequential, FullCone}:           {InSequence, true},
		{PortRestricted, PortRestricted}: {Independent, false},
		{DualStack, IPv6Only}:            {Independent, false},
		{UPnP1, Symmetric}:               {Independent, false}, // mapped
		{Symmetric, Symmetric}:           {Independent, false}, // relayed
	} {
		if mapping, hard := pair.hard(); mapping != want.mapping || hard != want.hard {
			t.Errorf("%v: %d, %t; want %d, %t", pair, mapping, hard, want.mapping, want.hard)
		}
	}
}

// All ordered pairs are met once, and no site twice in a batch.
func TestBatches(t *testing.T) {
	kinds := Kinds()
	seen := make(map[Pair]int)
	for _, batch := range Batches(kinds) {
		users, devices := make(map[Kind]bool), make(map[Kind]bool)
		for _, p := range batch {
			if users[p.User] || devices[p.Device] {
				t.Errorf("a site is twice in the batch %v", batch)
			}
			users[p.User], devices[p.Device] = true, true
			seen[p]++
		}
	}
	if len(seen) != len(kinds)*len(kinds) {
		t.Errorf("%d pairs of %d kinds", len(seen), len(kinds))
	}
	for p, n := range seen {
		if n != 1 {
			t.Errorf("%v is met %d times", p, n)
		}
	}
}

// The sample is one batch, and has every route in it.
func TestSample(t *testing.T) {
	users, devices := make(map[Kind]bool), make(map[Kind]bool)
	routes := make(map[tunnel.Route]bool)
	for _, p := range Sample() {
		if users[p.User] || devices[p.Device] {
			t.Errorf("a site of %v is in the sample twice", p)
		}
		users[p.User], devices[p.Device], routes[p.Expect()] = true, true, true
	}
	for _, r := range []tunnel.Route{tunnel.Direct, tunnel.Mapped, tunnel.Punched, tunnel.Relayed} {
		if !routes[r] {
			t.Errorf("nothing in the sample is %s", r)
		}
	}
}

func TestKinds(t *testing.T) {
	if len(Kinds()) != len(traits) {
		t.Errorf("%d kinds, traits of %d", len(Kinds()), len(traits))
	}
	for k := range traits {
		if !slices.Contains(Kinds(), k) || k.Traits().Netcheck == "" {
			t.Errorf("%s has no place in tables, or no name", k)
		}
	}
}
