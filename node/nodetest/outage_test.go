package nodetest

import (
	"bufio"
	"testing"
	"time"

	"culvert/node/client"
	"culvert/node/config"
)

// The super-node in use is killed: the next lookup and a new tunnel work by the other one.
func TestSuperNodeKilled(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	supers := []*process{m.superProcess("super-1", "acme"), m.superProcess("super-2", "acme")}
	d := newDevice(t, "printer")
	at := m.agent("workshop", "acme", consents(d))
	user := m.agent("desk", "acme", func(c *config.Config) { c.Tunnel = false })
	m.device(at, d)
	user.sees(d.name)
	m.announced(supers[0].agent, at)
	m.announced(supers[1].agent, at)

	tun := user.opens(client.OpenRequest{Device: d.name, Port: d.portText(), Route: "relayed"})
	talk(t, tun.Local, d.name)
	var used, left *process
	for _, s := range supers {
		if s.id("").String() == tun.Relay {
			used = s
		} else {
			left = s
		}
	}
	if used == nil {
		t.Fatalf("relay %s is no super-node", tun.Relay)
	}
	used.kill()
	began := time.Now()
	var l []client.Device
	took := eventually(t, "lookup after the kill", func() (ok bool) {
		var err error
		l, err = user.api.Devices(t.Context(), client.DeviceQuery{Refresh: true})
		return err == nil
	})
	if len(l) != 1 || l[0].Name != d.name {
		t.Errorf("devices: %+v", l)
	}
	var again client.Tunnel
	eventually(t, "new tunnel after the kill", func() bool {
		var err error
		if again, err = user.open(client.OpenRequest{Device: d.name, Port: d.portText(), Route: "relayed"}); err != nil {
			t.Log(err)
		}
		return err == nil
	})
	t.Logf("lookup after %s, relayed tunnel %s after the kill", took, time.Since(began))
	if again.Relay != left.id("").String() {
		t.Errorf("relayed by %s", again.Relay)
	}
	talk(t, again.Local, d.name)
}

// The operator is stopped and every agent restarted meanwhile: lookups, an existing tunnel and new ones go on.
func TestOperatorStopped(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	super := m.super("super", "acme")
	d := newDevice(t, "printer")
	at := m.agent("workshop", "acme", consents(d))
	user := m.agent("desk", "acme", nil)
	other := m.agent("desk-2", "acme", nil)
	m.device(at, d)
	user.sees(d.name)
	m.announced(super, at)
	tun := user.opens(client.OpenRequest{Device: d.name, Port: d.portText()})
	c := talk(t, tun.Local, d.name)

	m.stop()
	echo(t, c, bufio.NewReader(c)) // the existing connection
	talk(t, tun.Local, d.name)     // the existing tunnel
	other.stop()
	other.start()
	lookAndOpen(t, other, d)

	kept := user.opens(client.OpenRequest{Device: d.name, Port: d.portText(), Persist: true, Local: freeAddr(t)}) // which nobody takes meanwhile
	for _, a := range []*agent{super, at, user} {
		a.stop()
	}
	for _, a := range []*agent{super, at, user} {
		a.start()
	}
	super.serving()
	lookAndOpen(t, other, d)
	lookAndOpen(t, user, d)
	eventually(t, "the lasting tunnel is back", func() bool {
		l, err := user.api.Tunnels(t.Context())
		return err == nil && len(l) > 0 && l[0].Local == kept.Local
	})
	talk(t, kept.Local, d.name)
}

// Every super-node was started anew and does not know the tunnel-node's address yet: one that can be dialled is asked itself.
func TestSuperNodesStartedAnew(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	supers := []*agent{m.super("super-1", "acme"), m.super("super-2", "acme")}
	d := newDevice(t, "printer")
	at := m.agent("workshop", "acme", consents(d))
	user := m.agent("desk", "acme", func(c *config.Config) { c.Tunnel = false })
	m.device(at, d)
	user.sees(d.name)
	for _, s := range supers {
		m.announced(s, at)
	}
	m.stop()
	for _, s := range supers {
		s.stop()
		s.start()
		s.serving()
	}
	tun := must[client.Tunnel](t)(user.open(client.OpenRequest{Device: d.name, Port: d.portText(), Route: "direct"}))
	talk(t, tun.Local, d.name)
}

// lookAndOpen looks a device up, without what the agent remembers, and opens a new tunnel to it.
func lookAndOpen(t *testing.T, a *agent, d *device) {
	t.Helper()
	eventually(t, a.name+" looks up", func() bool {
		l, err := a.api.Devices(t.Context(), client.DeviceQuery{Refresh: true})
		if err != nil {
			t.Log(err)
		}
		return err == nil && len(l) == 1
	})
	var tun client.Tunnel
	eventually(t, a.name+" opens", func() bool {
		var err error
		if tun, err = a.open(client.OpenRequest{Device: d.name, Port: d.portText()}); err != nil {
			t.Log(err)
		}
		return err == nil
	})
	talk(t, tun.Local, d.name)
}
