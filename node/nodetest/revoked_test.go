package nodetest

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"culvert/node/client"
	"culvert/operator"
	"culvert/protocol"
)

// The open tunnels of a revoked node, at either end, and of a banned domain close, with the operator stopped as soon as a
// super-node knows.
func TestRevokedTunnelsClose(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme", "gone")
	super := m.super("super", "acme")
	type pair struct {
		what, domain string
		at, user     *agent
		device       *device
		conn         net.Conn
	}
	pairs := []*pair{{what: "user-node revoked", domain: "acme"}, {what: "tunnel-node revoked", domain: "acme"},
		{what: "domain banned", domain: "gone"}, {what: "neither", domain: "acme"}}
	for i, p := range pairs {
		n := string(rune('1' + i))
		p.device = newDevice(t, "printer-"+n)
		p.at = m.agent("workshop-"+n, p.domain, consents(p.device))
		p.user = m.agent("desk-"+n, p.domain, nil)
		m.device(p.at, p.device)
		m.announced(super, p.at)
		p.user.sees(p.device.name)
		tun := p.user.opens(client.OpenRequest{Device: p.device.name, Port: p.device.portText()})
		p.conn = talk(t, tun.Local, p.device.name)
	}
	own, foreign := m.probe("acme", false), m.probe("gone", false)
	to := super.peer()
	for _, p := range []*probe{own, foreign} {
		_, err := p.call(t.Context(), to, protocol.Ping{}, patience)
		noError(t, err)
	}

	must[operator.NodeView](t)(m.op.RevokeNode(t.Context(), admin, pairs[0].user.id("").String()))
	must[operator.NodeView](t)(m.op.RevokeNode(t.Context(), admin, pairs[1].at.id("").String()))
	must[operator.DomainView](t)(m.op.BanDomain(t.Context(), admin, "gone"))
	eventually(t, "the super-node knows", func() bool {
		l, err := own.list(to, protocol.GetRevocations{})
		return err == nil && len(l) == 2
	})
	eventually(t, "the super-node knows of the ban", func() bool {
		foreign.write(to, foreign.signed(time.Now(), to, protocol.Ping{}))
		return count(super.node, "messages: revoked") > 0
	})
	began := time.Now()
	m.stop()

	var wg sync.WaitGroup
	for _, p := range pairs[:3] {
		wg.Go(func() {
			p.conn.SetReadDeadline(began.Add(patience))
			var b [1]byte
			_, err := p.conn.Read(b[:])
			took := time.Since(began)
			var late net.Error
			if errors.As(err, &late) && late.Timeout() {
				t.Errorf("%s: the tunnel is open after %s", p.what, took)
				return
			}
			t.Logf("%s: tunnel closed after %s", p.what, took.Round(time.Millisecond))
			if took > 10*time.Second {
				t.Logf("%s: later than 10 s", p.what)
			}
		})
	}
	wg.Wait()
	for _, p := range pairs[:3] {
		_, err := p.user.open(client.OpenRequest{Device: p.device.name, Port: p.device.portText()})
		var e *client.Error
		if !errors.As(err, &e) || e.Hint == "" {
			t.Errorf("%s: a new tunnel: %v", p.what, err)
		}
	}
	// Those who were ended are told so, by whichever command they use.
	for what, c := range map[string]struct {
		a           *agent
		state, text string
	}{
		"revoked": {pairs[0].user, "revoked", "no longer admits this node to the domain acme"},
		"banned":  {pairs[2].user, "banned", "has banned the domain gone"},
	} {
		// The other end may have closed the tunnel before this one knows.
		eventually(t, what+" is its state", func() bool { return c.a.member("").State == c.state })
		_, openErr := c.a.open(client.OpenRequest{Device: "printer", Port: "9100"})
		_, listErr := c.a.api.Devices(t.Context(), client.DeviceQuery{})
		for _, err := range []error{openErr, listErr} {
			var e *client.Error
			if !errors.Is(err, client.ErrRefused) || !errors.As(err, &e) || !has(e.Message, c.text) || e.Hint == "" {
				t.Errorf("%s: %#v", what, err)
			}
		}
	}
	last := pairs[3]
	echo(t, last.conn, last.conn)
}
