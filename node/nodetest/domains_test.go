package nodetest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"culvert/discovery"
	"culvert/node/client"
	"culvert/node/config"
	"culvert/operator"
	"culvert/protocol"
)

// One daemon in a hundred domains of one operator opens a device in each, and nothing of one domain is to be seen in another.
// Not parallel: it has enough to do by itself.
func TestHundredDomains(t *testing.T) {
	const domains = manyDomains
	m := newMesh(t)
	names := make([]string, domains)
	devices := make([]*device, domains)
	for i := range names {
		names[i] = fmt.Sprintf("customer-%02d", i)
		devices[i] = newDevice(t, "printer") // the same name everywhere
		must[operator.DomainView](t)(m.op.AddDomain(t.Context(), admin, names[i]))
	}
	super := m.super("super", names[0])
	// The vendor's daemon, and for brevity one daemon that is every customer's workstation.
	vendor, works := m.enrolled("vendor", ""), m.enrolled("works", "")
	vendor.set.Tunnel = false
	for i, d := range devices {
		works.set.Consent = append(works.set.Consent, config.Consent{Device: d.name + "@" + names[i], Ports: d.consent().Ports})
	}
	began := time.Now()
	var g errgroup.Group
	g.SetLimit(4)
	for _, name := range names {
		for _, a := range []*agent{vendor, works} {
			token := m.token(name, 1)
			g.Go(func() error {
				return a.enrol(token)
			})
		}
	}
	noError(t, g.Wait())
	joined := time.Since(began)
	works.start()
	vendor.start()

	status := must[client.Status](t)(vendor.api.Status(t.Context()))
	worksAt := must[client.Status](t)(works.api.Status(t.Context()))
	if len(status.Memberships) != domains || len(worksAt.Memberships) != domains {
		t.Fatalf("%d and %d memberships", len(status.Memberships), len(worksAt.Memberships))
	}
	byName := make(map[string]client.Membership)
	ids := make(map[string]bool)
	for _, mem := range slices.Concat(status.Memberships, worksAt.Memberships) {
		ids[mem.NodeID[9:]] = true // the hash, which another domain must not know it by
	}
	if len(ids) != 2*domains {
		t.Errorf("%d different keys for %d memberships", len(ids), 2*domains)
	}
	for _, mem := range worksAt.Memberships {
		byName[mem.Domain] = mem
	}
	specs := make([]operator.DeviceSpec, domains)
	for i, d := range devices {
		specs[i] = operator.DeviceSpec{Name: d.name, Domain: names[i], Node: byName[names[i]].NodeID, Ports: []string{d.portText()}}
	}
	views := must[[]operator.DeviceView](t)(m.op.AddDevices(t.Context(), admin, specs))

	// Each device is opened through the one daemon, and answers as itself.
	began = time.Now()
	var all sync.WaitGroup
	room := make(chan struct{}, 8)
	for i, d := range devices {
		all.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			var tun client.Tunnel
			var err error
			for end := time.Now().Add(patience); ; { // until the agent is announced, too
				tun, err = vendor.open(client.OpenRequest{Device: "printer@" + names[i], Port: d.portText()})
				if err == nil || time.Now().After(end) {
					break
				}
			}
			if err != nil {
				t.Errorf("%s: %v", names[i], err)
				return
			}
			if tun.DeviceID != views[i].ID.String() || tun.Domain != names[i] {
				t.Errorf("%s: opened %s in %s", names[i], tun.DeviceID, tun.Domain)
			}
			talk(t, tun.Local, d.name)
		})
	}
	all.Wait()
	t.Logf("%d enrolments in %s, %d devices opened in %s", 2*domains, joined.Round(time.Millisecond), domains, time.Since(began).Round(time.Millisecond))
	if t.Failed() {
		return
	}
	t.Run("lists", func(t *testing.T) { separateLists(t, vendor, names, views) })
	t.Run("names", func(t *testing.T) {
		_, err := vendor.answered(client.OpenRequest{Device: "printer", Port: devices[0].portText()})
		if !errors.Is(err, client.ErrAmbiguous) {
			t.Errorf("a name that is in all domains: %v", err)
		}
		for i := range names { // the neighbour's port is not this domain's
			_, err := vendor.answered(client.OpenRequest{Device: "printer@" + names[i], Port: devices[(i+1)%domains].portText()})
			if !errors.Is(err, client.ErrNotAllowed) {
				t.Errorf("%s: %v", names[i], err)
			}
		}
	})
	t.Run("places", func(t *testing.T) { separatePlaces(t, m, vendor, status.Memberships) })
	t.Run("records", func(t *testing.T) { separateRecords(t, m, super, byName, names, views) })
}

// separateLists: what is asked of one domain shows that domain's alone.
func separateLists(t *testing.T, vendor *agent, names []string, views []operator.DeviceView) {
	for i, name := range names {
		l := vendor.devices(client.DeviceQuery{Domain: name})
		if len(l) != 1 || l[0].ID != views[i].ID.String() || l[0].Domain != name || l[0].Node != views[i].Node {
			t.Errorf("%s: %+v", name, l)
		}
	}
	l := vendor.devices(client.DeviceQuery{})
	if len(l) != len(names) {
		t.Errorf("%d devices in all", len(l))
	}
}

// separatePlaces: the location IDs of one network differ between domains, as do the keys under which they are looked up.
func separatePlaces(t *testing.T, m *mesh, vendor *agent, in []client.Membership) {
	gateway := []discovery.Gateway{{Interface: "eth0", Addr: netip.MustParseAddr("192.0.2.1"), Prefix: netip.MustParsePrefix("192.0.2.0/24"), MAC: discovery.MAC{2, 0, 0, 0, 0, 1}}}
	seen := make(map[protocol.Hash]string)
	for _, mem := range in {
		d := must[protocol.Domain](t)(protocol.ParseDomain(mem.DomainID))
		s := must[*protocol.DomainSecrets](t)(m.op.DomainSecrets(d))
		places := discovery.Locate(gateway, s.LocationSecret())
		if len(places) != 1 {
			t.Fatalf("%d places", len(places))
		}
		id := protocol.Hash(places[0].ID)
		for _, h := range []protocol.Hash{id, s.LocationKey(id), s.NameKey("printer")} {
			if other, ok := seen[h]; ok {
				t.Errorf("%s and %s have the same hash", mem.Domain, other)
			}
			seen[h] = mem.Domain
		}
	}
	ids := make(map[string]bool)
	l := must[[]client.Location](t)(vendor.api.Locations(t.Context()))
	for _, loc := range l {
		if ids[loc.ID] {
			t.Errorf("location %s twice", loc.ID)
		}
		ids[loc.ID] = true
	}
}

// separateRecords: a super-node tells a member of its own domain's records only, and those of others could not be opened.
func separateRecords(t *testing.T, m *mesh, super *agent, works map[string]client.Membership, names []string, views []operator.DeviceView) {
	const asking = 5 // domains from which all others are asked for
	to := super.peer()
	readers := make([]*probe, asking)
	for i := range readers {
		readers[i] = m.probe(names[i], true)
		_, err := readers[i].call(t.Context(), to, protocol.Ping{}, patience)
		noError(t, err)
	}
	asked := func(i int) []protocol.Payload {
		at := must[protocol.ID](t)(protocol.ParseID(works[names[i]].NodeID))
		s := must[*protocol.DomainSecrets](t)(m.op.DomainSecrets(at.Domain()))
		return []protocol.Payload{
			protocol.GetNode{ID: at}, protocol.GetNodeInfo{ID: at}, protocol.GetEndDevices{Key: views[i].ID},
			protocol.GetEndDevices{Key: protocol.NewID(at.Domain(), protocol.Hash{})},
			protocol.GetEndDevices{Key: protocol.NewID(at.Domain(), s.NameKey("printer"))},
		}
	}
	for r, p := range readers {
		own := p.id.Domain()
		for i := range names {
			if i == r {
				continue
			}
			before := count(super.node, "records: drop_foreign_domain")
			qs := asked(i)
			n, _ := p.answers(to, func() {
				for _, q := range qs {
					payload := must[[]byte](t)(protocol.AppendPayload(nil, q))
					noError(t, p.ep.Send(time.Now(), p.id, to, q.Command(), payload, &p.out))
					noError(t, p.flush())
				}
				eventually(t, "they are dropped", func() bool { return count(super.node, "records: drop_foreign_domain") >= before+uint64(len(qs)) })
			})
			if got := count(super.node, "records: drop_foreign_domain") - before; n != 0 || got != uint64(len(qs)) {
				t.Errorf("%s asks for %s: %d answers, %d drops", names[r], names[i], n, got)
			}
		}
		// Of its own domain it gets all, and nothing else, and what others might copy off the wire they cannot open.
		for _, q := range asked(r)[1:] {
			l := p.listed(to, q)
			if len(l) != 1 {
				t.Fatalf("%s: %d records for %s", names[r], len(l), q.Command())
			}
			rec := must[*protocol.Record](t)(protocol.ParseRecord(l[0]))
			if rec.Owner.Domain() != own {
				t.Errorf("%s is given a record of %s", names[r], rec.Owner.Domain())
			}
			must[[]byte](t)(p.secrets.OpenValue(rec.Table, rec.Owner, rec.Value))
			for _, other := range readers {
				if other == p {
					continue
				}
				if _, err := other.secrets.OpenValue(rec.Table, rec.Owner, rec.Value); !errors.Is(err, protocol.ErrDomainKey) {
					t.Errorf("a record of %s opens with the keys of another domain: %v", names[r], err)
				}
			}
		}
	}
}
