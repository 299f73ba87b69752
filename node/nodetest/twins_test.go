package nodetest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/discovery"
	"culvert/node/client"
	"culvert/operator"
	"culvert/protocol"
)

const (
	twinPlaces = 5
	twinPairs  = 500 // devices of each customer
)

// twin is one of two customers whose networks look the same.
type twin struct {
	name   string
	domain protocol.Domain
	*probe
	places  []protocol.Hash
	devices []operator.DeviceView
}

// Two customers have the same prefixes, routers with the same MACs, and devices with the same names and MACs behind them. By
// the records that a super-node really gives out, and by what the agents make of them, none is ever taken for the other's.
func TestTwinCustomers(t *testing.T) {
	m := newMesh(t, "acme", "globex")
	super := m.super("super", "acme")
	twins := make([]*twin, 2)
	for i, name := range []string{"acme", "globex"} {
		p := m.probe(name, true)
		tw := &twin{name: name, domain: p.id.Domain(), probe: p}
		var specs []operator.DeviceSpec
		for n := range twinPairs {
			place := twinPlace(n % twinPlaces)
			found := discovery.Locate([]discovery.Gateway{place}, p.secrets.LocationSecret())
			if len(found) != 1 {
				t.Fatalf("%d places", len(found))
			}
			if n < twinPlaces {
				tw.places = append(tw.places, protocol.Hash(found[0].ID))
			}
			specs = append(specs, operator.DeviceSpec{
				Name: fmt.Sprintf("printer-%d", n), Domain: name, MAC: twinMAC(n).String(), Ports: []string{"631"},
				Locations: []string{found[0].ID.String()},
			})
		}
		tw.devices = must[[]operator.DeviceView](t)(m.op.AddDevices(t.Context(), admin, specs))
		// The probe is the customer's tunnel-node at all of its places.
		raw := must[[]byte](t)(p.info(1, protocol.NodeInfoValue{Name: "desk", Tunnel: true, Locations: tw.places}))
		eventually(t, name+" announces its tunnel-node", func() bool {
			v, err := p.put(t.Context(), super.peer(), p.id, raw, 2*time.Second)
			return err == nil && v.Status == protocol.StatusOK
		})
		twins[i] = tw
	}
	user := m.enrolled("vendor", "") // in both domains
	user.set.Tunnel = false
	user.start()
	for _, tw := range twins {
		must[client.Membership](t)(user.api.Join(t.Context(), m.token(tw.name, 1), "vendor"))
	}

	crossed := 0
	for i, tw := range twins {
		crossed += listed(t, user, tw, twins[1-i])
		crossed += onTheWire(t, super.peer(), tw, twins[1-i])
	}
	t.Logf("%d of %d devices matched across customers", crossed, 2*twinPairs)
	if crossed != 0 {
		t.Error("there are cross matches")
	}
}

func twinPlace(n int) discovery.Gateway {
	return discovery.Gateway{
		Interface: "eth0", Addr: netip.AddrFrom4([4]byte{192, 168, byte(n), 1}),
		Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(n), 0}), 24), MAC: discovery.MAC{2, 0, 0, 0, 0, byte(n + 1)},
	}
}

func twinMAC(n int) discovery.MAC { return discovery.MAC{2, 0, 0, 1, byte(n >> 8), byte(n)} }

// listed counts the devices of which an agent in both domains makes something wrong when it is asked for one customer's.
func listed(t *testing.T, user *agent, own, other *twin) (crossed int) {
	t.Helper()
	var l []client.Device
	eventually(t, "the agent sees the devices of "+own.name, func() bool {
		var err error
		l, err = user.api.Devices(t.Context(), client.DeviceQuery{Domain: own.name, Refresh: true})
		return err == nil && len(l) == twinPairs && !slices.ContainsFunc(l, func(d client.Device) bool { return d.TunnelNodes == 0 })
	})
	byName := make(map[string]client.Device)
	for _, d := range l {
		byName[d.Name] = d
	}
	for n, want := range own.devices {
		d := byName[want.Name]
		place := fmt.Sprintf("%x", own.places[n%twinPlaces])
		if d.ID != want.ID.String() || d.Domain != own.name || d.MAC != twinMAC(n).String() || !slices.Equal(d.Locations, []string{place}) ||
			d.TunnelNodes != 1 || d.ID == other.devices[n].ID.String() {
			t.Errorf("%s in %s: %+v", want.Name, own.name, d)
			crossed++
		}
	}
	return crossed
}

// onTheWire counts the devices for which a super-node gives a member of one domain anything of the other, whatever it asks
// for: by name, by the location of the device, and by the location of its twin.
func onTheWire(t *testing.T, super protocol.Peer, own, other *twin) (crossed int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	at := func(h protocol.Hash) protocol.ID { return protocol.NewID(own.domain, h) }
	for n, want := range own.devices {
		place, twinned := own.places[n%twinPlaces], other.places[n%twinPlaces]
		wrong := place == twinned || own.secrets.LocationKey(place) == other.secrets.LocationKey(twinned) ||
			own.secrets.NameKey(want.Name) == other.secrets.NameKey(want.Name)
		for _, q := range []struct {
			ask  protocol.Payload
			want []protocol.ID
		}{
			{protocol.GetEndDevices{Key: at(own.secrets.NameKey(want.Name))}, []protocol.ID{want.ID}},
			{protocol.GetEndDevices{Key: at(other.secrets.NameKey(want.Name))}, nil},
			{protocol.GetTunnelNodes{Location: at(own.secrets.LocationKey(place))}, []protocol.ID{own.id}},
			{protocol.GetTunnelNodes{Location: at(own.secrets.LocationKey(twinned))}, nil},
			{protocol.GetTunnelNodes{Location: at(other.secrets.LocationKey(twinned))}, nil},
		} {
			if n >= twinPlaces && q.ask.Command() == protocol.CmdGetTunnelNodes {
				continue // the same places again
			}
			v, err := own.call(ctx, super, q.ask, patience)
			if err != nil {
				t.Fatalf("%s of %s: %v", q.ask.Command(), own.name, err)
			}
			var got []protocol.ID
			for _, raw := range must[protocol.RecordList](t)(protocol.ParseRecordList(v.Payload)).Records {
				r := must[*protocol.Record](t)(protocol.ParseRecord(raw))
				got = append(got, r.Owner)
				if _, err := other.secrets.OpenValue(r.Table, r.Owner, r.Value); err == nil {
					t.Errorf("a record of %s opens with the keys of %s", own.name, other.name)
					wrong = true
				}
			}
			if !slices.Equal(got, q.want) {
				t.Errorf("%s of %s: %v, want %v", q.ask.Command(), own.name, got, q.want)
				wrong = true
			}
		}
		if wrong {
			crossed++
		}
	}
	return crossed
}
