package nodetest

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"culvert/node/client"
	"culvert/node/config"
)

// Two nodes meet by UDP through a super-node, and the tunnel runs over QUIC on the port of their messages.
func TestPunched(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	super := m.super("super", "acme")
	d := newDevice(t, "printer")
	at := m.agent("workshop", "acme", consents(d))
	user := m.agent("desk", "acme", func(c *config.Config) { c.Tunnel = false })
	m.device(at, d)
	user.sees(d.name)
	m.announced(super, at)

	began := time.Now()
	tun := user.opens(client.OpenRequest{Device: d.name, Port: d.portText(), Route: "punched"})
	t.Logf("punched in %s", time.Since(began))
	if tun.Route != "punched" {
		t.Fatalf("route %s was taken", tun.Route)
	}
	talk(t, tun.Local, d.name).Close()
	met := make(map[*agent]uint64)
	for _, a := range []*agent{user, at} {
		if met[a] = count(a.node, "punch: met"); met[a] == 0 {
			t.Errorf("%s: no meeting: %v", a.name, a.node.Stats())
		}
	}

	// A job of some size, both ways, with a stream of its own.
	data := make([]byte, 32<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	c := must[net.Conn](t)(net.Dial("tcp", tun.Local))
	defer c.Close()
	began = time.Now()
	go func() {
		_, _ = c.Write(data)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got := must[[]byte](t)(io.ReadAll(c))
	got, _ = bytes.CutPrefix(got, []byte(d.name+"\n"))
	if sha256.Sum256(got) != sha256.Sum256(data) {
		t.Errorf("%d bytes of %d came back, or others", len(got), len(data))
	}
	took := time.Since(began)
	t.Logf("%d MiB there and back in %s (%.0f Mbit/s each way)", len(data)>>20, took, float64(len(data))*8/1e6/took.Seconds())

	// Nothing of it went another way, or by another meeting.
	for a, before := range met {
		if n := count(a.node, "punch: met"); n != before {
			t.Errorf("%s: %d meetings, %d before the job: %v", a.name, n, before, a.node.Stats())
		}
	}
	if n := count(at.node, "tunnels: bulk taken"); n != 1 {
		t.Errorf("%d flows with a stream of their own", n)
	}
}
